"""A run is of what lies behind its paths: the same content elsewhere is the same run, other content is another."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from test_tokenizer import leveled, pieced
from tiny_runs import COMPARED, finished, program, rows, tiny, train

from gptlab import compose as wiring
from gptlab.corpus.load import read_corpus
from gptlab.errors import Refused

TEXT = (ROOT / "LICENSE").read_text() * 3


def hashed(*overrides: str) -> str:
    """The hash of a recipe."""
    return wiring.compose([*overrides]).hash


def test_a_text_is_its_content_wherever_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("my.txt").write_text(TEXT)
    first = hashed("data=text", "data.path=my.txt")
    assert hashed("data=text", f"data.path={tmp_path}/my.txt") == first
    Path("folder").mkdir()
    Path("folder/copy.txt").write_text(TEXT)
    for path in ("folder", "folder/", "./folder", "'folder/*.txt'"):
        assert hashed("data=text", f"data.path={path}") == first, path
    Path("my.txt").write_text(TEXT.replace("a", "b"))
    assert hashed("data=text", "data.path=my.txt") != first
    assert hashed("data=text", "data.path=nowhere.txt") != first
    Path("folder/b.txt").write_text(TEXT)
    assert hashed("data=text", "data.path=folder") != first


def test_a_large_file_is_read_once_for_all_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gptlab.corpus.content.LARGE", 100)
    (tmp_path / "my.txt").write_text(TEXT)
    words = ["data=text", f"data.path={tmp_path}/my.txt", f"outputs={tmp_path}/outputs"]
    first = hashed(*words)
    (kept,) = (tmp_path / "outputs" / "cache").glob("stamp-*/sha256")
    kept.write_text("0" * 64)
    wiring.stamp_content.__globals__["_hash_state"].cache_clear()
    assert hashed(*words) != first  # of what was kept, and not of the file
    os.utime(tmp_path / "my.txt", ns=(1, 1))
    assert hashed(*words) == first


def test_shards_are_their_tokens_and_which_of_them_judge(tmp_path: Path):
    for folder in ("one", "two", "three"):
        (tmp_path / folder).mkdir()
        np.arange(1000, dtype="<u2").tofile(tmp_path / folder / "a.bin")
        np.arange(500, dtype="<u2").tofile(tmp_path / folder / ("b.bin" if folder == "three" else "val.bin"))
    hashes = [
        hashed("data=shards", "tokenizer=gpt2", f"data.path={tmp_path}/{name}") for name in ("one", "two", "three")
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_tokenizers_file_is_its_content(tmp_path: Path):
    leveled().save(str(tmp_path / "tokenizer.json"))
    words = ["tokenizer=file", f"tokenizer.path={tmp_path}"]
    first = hashed(*words)
    assert hashed("tokenizer=file", f"tokenizer.path={tmp_path}/tokenizer.json") == first
    pieced().save(str(tmp_path / "tokenizer.json"))
    assert hashed(*words) != first


def test_a_study_takes_no_run_of_another_text(tmp_path: Path):
    rest = [word for word in tiny(tmp_path) if not word.startswith("data.path")]
    words = [*rest, f"data.path={tmp_path}/my.txt", "seeds=1", "timing=0"]
    texts = (TEXT, TEXT[::-1])
    for number, text in enumerate((*texts, *texts)):
        (tmp_path / "my.txt").write_text(text)
        done = program("ablate.py", *words)
        assert done.status in COMPARED, done.err
        assert f"1 cells, seeds 0: {int(number > 1)} done" in done.out
    runs = [json.loads(file.read_text())["data_sha256"] for file in (tmp_path / "runs").glob("*/run.json")]
    assert len({*runs}) == len(runs) == 2


def test_auto_begins_anew_when_the_text_has_changed(tmp_path: Path):
    rest = [word for word in tiny(tmp_path) if not word.startswith("data.path")]
    words = [*rest, f"data.path={tmp_path}/my.txt", "resume=auto"]
    (tmp_path / "my.txt").write_text(TEXT)
    first = finished(*words)
    (first / "summary.json").unlink()
    assert finished(*words) == first
    (first / "summary.json").unlink()
    (tmp_path / "my.txt").write_text(TEXT[::-1])
    assert train(*words).folder != first
    assert rows(first / "metrics.jsonl")


def test_a_task_is_its_content_and_its_name(tmp_path: Path):
    pair = '{"sentence_good": "a b", "sentence_bad": "b a"}\n'
    for name in ("one/agreement", "two/agreement", "two/binding"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.jsonl").write_text(pair)

    def judged_by(name: str) -> str:
        return hashed("metric=[minimal_pairs]", f"metric.minimal_pairs.path={tmp_path}/{name}.jsonl")

    first = judged_by("one/agreement")
    assert judged_by("two/agreement") == first != judged_by("two/binding")
    (tmp_path / "two/agreement.jsonl").write_text(pair * 2)
    assert judged_by("two/agreement") != first


def test_a_file_that_changes_between_plan_and_training_is_no_run_of_either_text(tmp_path: Path):
    text = tmp_path / "my.txt"
    text.write_text(TEXT)
    recipe = wiring.compose([*tiny(tmp_path), f"data.path={text}"])
    text.write_text(TEXT[::-1])
    with pytest.raises(Refused, match=r"data\.path=.*my\.txt is not what it was when this run was planned"):
        read_corpus(recipe)


PAIR = {"sentence_good": "the license is free", "sentence_bad": "the license are free"}


@pytest.mark.thorough
def test_a_run_goes_on_with_the_tasks_that_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    there, other = tmp_path / "there", tmp_path / "other"
    for folder in (there, other):
        folder.mkdir()
    monkeypatch.chdir(there)
    pairs = Path("pairs.jsonl")
    pairs.write_text(json.dumps(PAIR))
    words = ["metric=[minimal_pairs]", "metric.minimal_pairs.path=pairs.jsonl", "steps=4", "tokenizer=byte"]
    run = finished(*tiny(tmp_path, *words))
    (run / "summary.json").unlink()
    monkeypatch.chdir(other)  # a relative path is as seen from where the run began
    assert train(f"resume={run}").status == 0
    assert train(f"like={run}", "steps=2", "sample.count=0", f"outputs={tmp_path}").status == 0
    (run / "summary.json").unlink()
    (there / pairs).write_text(json.dumps({**PAIR, "sentence_good": "e"}))
    done = train(f"resume={run}")
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert "pairs.jsonl is not what it was when this run was planned" in done.err
    pairs.write_text(json.dumps(PAIR))
    assert train(f"resume={run}", f"metric.minimal_pairs.path={pairs}").status == 0
