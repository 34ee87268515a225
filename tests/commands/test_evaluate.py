"""Laws of `evaluate`: local files and lm-evaluation-harness's tasks score what an independent count finds."""

import json
import math
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from forked_process import run_forked
from tiny_runs import finished, rows, summary, tiny
from typer.testing import CliRunner

from gptlab.__main__ import app
from gptlab.commands.evaluation.harness import refuse_unknown_tasks
from gptlab.corpus.tokenizer import Tokenizer
from gptlab.errors import Refused
from gptlab.model.decoder import Decoder
from gptlab.training.restore import load_run

PAIRS = [("the software is", "the software are"), ("to use, copy", "copy use, to"), ("a copy", "copy a")]
QUESTIONS = [
    {"question": "the rights to use,", "choices": ["copy, modify", "modi"], "answer": 0},
    {"question": "in all copies or substantial", "choices": ["sold", "portions of", "w"], "answer": "B"},
    {"question": "Permission is hereby granted, free of ", "choices": ["charge", "rge"], "answer": "charge"},
]

STOP = {"until": ["e"], "max_gen_toks": 12, "do_sample": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of tasks."""
    folder = tmp_path_factory.mktemp("tasks")
    pairs = [{"sentence_good": good, "sentence_bad": bad, "UID": "made_up"} for good, bad in PAIRS]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, QUESTIONS)) + "\n\n")
    return folder


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose own metrics are of the same files."""
    metric = f"metric=[minimal_pairs,answer_bits] metric.minimal_pairs.path={folder}/pairs.jsonl"
    words = f"{metric} metric.answer_bits.path={folder}/questions.jsonl"
    return finished(*tiny(tmp_path_factory.mktemp("evaluate")), *words.split())


@torch.no_grad()
def log_likelihood(decoder: Decoder, tokenizer: Tokenizer, before: str, text: str) -> float:
    """Sum over characters, each from a forward pass of its own over the last context."""
    tokens = tokenizer.encode(before + text if before else "\n" + text).tolist()
    first, total = len(before) or 1, 0.0
    for place in range(first, len(tokens)):
        # windows as the harness cuts them matter to no text of these, which fit the context
        start = max(0, len(tokens) - 1 - decoder.shape.context)
        logits = decoder.forward(torch.tensor([tokens[start:place]])).logits
        assert logits is not None
        total += logits[0, -1].double().log_softmax(-1)[tokens[place]].item()
    return total


def ask(*words: str) -> dict[str, Any]:
    """The scores of a command, from its file."""
    done = CliRunner().invoke(app, ["evaluate", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(Path(done.stdout.split()[-1]).read_text())


def refuse(*words: str) -> str:
    """The line with which a command refuses."""
    with pytest.raises(Refused) as refused:
        CliRunner().invoke(app, ["evaluate", *words], catch_exceptions=False)
    assert "\n" not in str(refused.value)
    return str(refused.value)


# -- local files


def test_minimal_pairs_are_won_by_the_likelier_sentence(run: Path, folder: Path):
    model = load_run(run)
    wins = [log_likelihood(*model, "", good) > log_likelihood(*model, "", bad) for good, bad in PAIRS]
    scores = ask(str(run), "--pairs", f"{folder}/pairs.jsonl")["last"]["pairs/pairs"]["metrics"]
    assert scores["accuracy"]["value"] == pytest.approx(sum(wins) / len(wins))
    assert summary(run)["val/minimal_pairs"] == scores["accuracy"]["value"]


def test_bits_per_byte_are_of_the_right_answer_alone(run: Path, folder: Path):
    model, bits = load_run(run), []
    for question, answer in zip(QUESTIONS, (" copy, modify", " portions of", " charge"), strict=True):
        # a blank at the end of a question is scored with its answer, here beside the one that parts them
        text = question["question"].rstrip()
        answer = " " * (len(question["question"]) - len(text)) + answer
        bits.append(-log_likelihood(*model, text, answer) / math.log(2) / len(answer))
    scores = ask(str(run), "--questions", f"{folder}/questions.jsonl")["last"]["questions/questions"]["metrics"]
    assert scores["bits/byte"]["value"] == pytest.approx(sum(bits) / len(bits), abs=1e-5)
    assert summary(run)["val/answer_bits"] == pytest.approx(scores["bits/byte"]["value"], abs=1e-6)


def test_every_evaluation_on_the_way_scores_the_tasks(run: Path):
    on_the_way = [row["val/answer_bits"] for row in rows(run / "metrics.jsonl") if "val/answer_bits" in row]
    assert len(on_the_way) == 2  # at step 20, and at the end
    assert on_the_way[-1] == summary(run)["val/answer_bits"]


def test_scores_of_other_tasks_and_checkpoints_stay_in_the_file(run: Path, folder: Path):
    ask(str(run), "--pairs", f"{folder}/pairs.jsonl")
    content = ask(str(run), "--questions", f"{folder}/questions.jsonl", "--which", "best")
    assert {"pairs/pairs"} <= {*content["last"]}
    assert {*content["best"]} == {"questions/questions"}


def test_a_program_gets_the_scores(run: Path, folder: Path):
    done = run_forked("-m", "gptlab", "evaluate", str(run), "--pairs", f"{folder}/pairs.jsonl", "--json")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["exit"], answer["tasks"]["pairs/pairs"]["documents"]) == (0, 0, 3)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ('{"sentence_good": "a"}', "sentence_bad=null is no text"),
        ('{"sentence_good": "a", "sentence_bad": "a"}', "a pair must differ"),
        ('{"sentence_good": "a", "sentence_bad": "é"}', "text 2: tokenizer=char has never seen"),
        ("[1]", "holds no object"),
        ("{", "is no JSON"),
        ("", "is empty"),
    ],
)
def test_pairs_that_cannot_be_scored_are_refused(line: str, wanted: str, run: Path, tmp_path: Path):
    (tmp_path / "p.jsonl").write_text(line)
    assert wanted in refuse(str(run), "--pairs", f"{tmp_path}/p.jsonl")


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"question": "a", "choices": ["b"], "answer": 1}, "answer=1 is none of its 1 choices"),
        ({"question": "a", "choices": [], "answer": 0}, "is no list of texts"),
        ({"question": "a", "choices": ["b", "c"], "answer": True}, "answer=true is none"),
        ({"choices": ["b"], "answer": 0}, "question=null is no text"),
    ],
)
def test_questions_that_cannot_be_scored_are_refused(row: dict[str, Any], wanted: str, run: Path, tmp_path: Path):
    (tmp_path / "q.jsonl").write_text(json.dumps(row))
    assert wanted in refuse(str(run), "--questions", f"{tmp_path}/q.jsonl")


def test_a_request_for_nothing_and_options_without_tasks_are_refused(run: Path, monkeypatch: pytest.MonkeyPatch):
    assert "scores nothing" in refuse(str(run))
    assert "name some" in refuse(str(run), "--pairs", "x", "--shots", "2")
    monkeypatch.setattr("gptlab.commands.evaluation.harness.find_spec", lambda name: None)
    assert refuse(str(run), "--tasks", "arc_easy").endswith("pip install 'gptlab[evaluation]'")


def test_an_unknown_task_is_refused_without_the_library_that_reads_them_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "tasks" / "sums").mkdir(parents=True)
    (tmp_path / "tasks" / "sums" / "sums.yaml").write_text("task: 'easy_sums'\ninclude: _sums_yaml\n")
    (tmp_path / "tasks" / "sums" / "_sums_yaml").write_text("tag:\n  - all_sums\n")
    own = tmp_path / "own"
    own.mkdir()
    (own / "mine.yml").write_text("task: mine\n")
    installed = ModuleSpec("lm_eval", None, is_package=True)
    installed.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr("gptlab.commands.evaluation.harness.find_spec", lambda name: installed)
    refuse_unknown_tasks(["easy_sums", "all_sums", "mine"], own)
    with pytest.raises(Refused, match="there is no such task here"):
        refuse_unknown_tasks(["mine"], None)
    # a run that is not there is not looked for either: the name comes first
    line = refuse(str(tmp_path / "run"), "--tasks", "easy_sums,easy_sum")
    assert line.startswith("--tasks=easy_sum: there is no such task here; did you mean easy_sums?")


# -- lm-evaluation-harness

libraries = pytest.mark.filterwarnings("ignore")
"""Warnings of the libraries of others are not ours."""


@pytest.fixture(scope="module")
def tasks(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """YAMLs of tasks on local data, one of each kind of request, and one whose data are not there."""
    pytest.importorskip("lm_eval", reason="lm_eval is not installed: pip install 'gptlab[evaluation]'")
    home, cache = tmp_path_factory.mktemp("yamls"), tmp_path_factory.mktemp("cache")
    numbered = [{**question, "answer": number} for question, number in zip(QUESTIONS, (0, 1, 0), strict=True)]
    (home / "numbered.jsonl").write_text("\n".join(map(json.dumps, numbered)))
    choose = {"doc_to_text": "{{question}}", "doc_to_choice": "{{choices}}", "doc_to_target": "{{answer}}"}
    choose["output_type"] = "multiple_choice"
    roll = {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{question}}"}
    write = {"output_type": "generate_until", "doc_to_text": "{{question}}", "doc_to_target": "x"}
    kinds: dict[str, dict[str, Any]] = {
        "tiny_choose": choose,
        "tiny_lost": choose,
        "tiny_roll": {**roll, "metric_list": [{"metric": "bits_per_byte"}]},
        "tiny_write": {**write, "metric_list": [{"metric": "exact_match"}], "generation_kwargs": STOP},
    }
    for name, kind in kinds.items():
        file = home / ("gone.jsonl" if name == "tiny_lost" else "numbered.jsonl")
        data = {"cache_dir": str(cache), "data_files": {"test": str(file)}}
        task = {"task": name, "dataset_path": "json", "dataset_kwargs": data, "test_split": "test", **kind}
        (home / f"{name}.yaml").write_text(yaml.safe_dump(task))
    return home


def collect_samples(run: Path, tasks: Path, name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    from gptlab.commands.evaluation.harness import evaluate_tasks

    results = evaluate_tasks(*load_run(run), [name], include_path=tasks, max_rows=2, keep_samples=True)
    return results, results["samples"][name]


@libraries
def test_the_log_likelihoods_of_the_harness_are_ours(run: Path, tasks: Path):
    results, samples = collect_samples(run, tasks, "tiny_choose")
    model, right = load_run(run), []
    for sample in samples:
        scores = [float(response[0][0]) for response in sample["resps"]]
        for (before, text), score in zip(sample["arguments"], scores, strict=True):
            stem = before.rstrip()
            assert score == pytest.approx(log_likelihood(*model, stem, before[len(stem) :] + text), abs=1e-4)
        right.append(scores.index(max(scores)) == sample["target"])
    assert len(samples) == len(QUESTIONS)
    assert results["results"]["tiny_choose"]["acc,none"] == pytest.approx(sum(right) / len(right))


@libraries
def test_whole_texts_are_scored_in_the_windows_of_the_harness(run: Path, tasks: Path):
    from lm_eval.utils import get_rolling_token_windows  # type: ignore[import-not-found]

    decoder, tokenizer = load_run(run)
    _, samples = collect_samples(run, tasks, "tiny_roll")
    for sample in samples:
        tokens = tokenizer.encode(sample["doc"]["question"]).tolist()
        assert len(tokens) > decoder.shape.context  # so that there are two windows
        total = 0.0
        start = int(tokenizer.encode("\n")[0])
        for inputs, targets in get_rolling_token_windows(tokens, start, decoder.shape.context, 1):
            with torch.no_grad():
                logits = decoder.forward(torch.tensor([inputs])).logits
            assert logits is not None
            scored = logits[0, -len(targets) :].double().log_softmax(-1)
            total += scored.gather(1, torch.tensor(targets)[:, None]).sum().item()
        assert float(sample["resps"][0][0]) == pytest.approx(total, abs=1e-4)


@libraries
def test_texts_are_written_by_our_own_generation_up_to_a_stop(run: Path, tasks: Path):
    from gptlab.generation.generate import generate

    decoder, tokenizer = load_run(run)
    _, samples = collect_samples(run, tasks, "tiny_write")
    for sample in samples:
        prompt = torch.from_numpy(tokenizer.encode(sample["doc"]["question"]).astype("int64"))[None]
        text = tokenizer.decode([int(token) for token in generate(decoder, prompt, 12, temperature=0)])
        assert sample["resps"][0][0] == text.partition("e")[0]


@libraries
def test_a_task_on_local_data_is_scored_and_kept(run: Path, tasks: Path):
    entry = ask(str(run), "--tasks", "tiny_choose", "--include-path", str(tasks))["last"]["tiny_choose"]
    assert 0 <= entry["metrics"]["acc"]["value"] <= 1
    assert (entry["documents"], entry["shots"]) == (3, 0)


@libraries
@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("tiny_lost", "its data cannot be read"),
        ("tiny_chose", "did you mean tiny_choose"),
    ],
)
def test_a_task_without_data_and_an_unknown_one_are_refused_in_a_line(name: str, wanted: str, run: Path, tasks: Path):
    assert wanted in refuse(str(run), "--tasks", name, "--include-path", str(tasks))
