"""Laws of python -m gptlab: samples stream and repeat, runs are a table, what is wrong is said in one line."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest
import yaml
from rich.console import Console
from tiny_runs import finished, program, summary, tiny
from typer.testing import CliRunner

from gptlab.__main__ import app
from gptlab.ablation.options import StudyOptions
from gptlab.commands.slots import describe_menu, print_menu
from gptlab.runs.record import RunFolder, read_recipe


def gptlab(*arguments: str, anew: bool = False, **variables: str) -> "subprocess.CompletedProcess[str]":
    """python -m gptlab <arguments>, in this process; `anew`: in one that imports everything itself."""
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "FORCE_COLOR")} | variables
    if not anew:
        with mock.patch.dict(os.environ, env, clear=True):
            done = program("-m gptlab", *arguments)
        return subprocess.CompletedProcess(arguments, done.status, done.out, done.err)
    command = [sys.executable, "-W", "error", "-m", "gptlab", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder."""
    return finished(*tiny(tmp_path_factory.mktemp("cli")))


# -- sample


@pytest.mark.thorough
def test_samples_repeat_and_go_on_from_the_prompt(run: Path):
    words = ["sample", str(run), "--prompt", "the ", "--length", "20"]
    first, again = (gptlab(*words, anew=anew) for anew in (True, False))
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout == again.stdout
    assert first.stdout.startswith("the ")
    assert len(first.stdout) == len("the ") + 20 + len("\n")


def test_knobs_of_sampling_matter(run: Path):
    def written(*knobs: str) -> str:
        return CliRunner().invoke(app, ["sample", str(run), "--prompt", "a", "--length", "30", *knobs]).stdout

    greedy = written("--temperature", "0")
    assert len(greedy) == 32
    assert written("--temperature", "0", "--seed", "7") == written("--top-k", "1") == greedy
    assert written("--top-p", "1e-6") == greedy
    assert written("--seed", "1") != written("--seed", "2")
    assert written("--which", "best") != written("--which", "last")


def test_a_draft_changes_no_greedy_text_and_a_stop_ends_one(run: Path):
    def written(*knobs: str) -> str:
        words = ["sample", str(run), "--prompt", "a", "--length", "30", "--temperature", "0", *knobs]
        return CliRunner().invoke(app, words).stdout

    alone = written()
    assert written("--draft", str(run), "--guesses", "3") == alone
    assert written("--stop", alone[4]) == alone[: alone.index(alone[4], 1) + 1] + "\n"
    assert written("--repetition", "1e9") != alone
    assert len(written("--beyond", "slide")) == len(alone)


def test_a_run_with_layers_that_predict_ahead_drafts_for_itself(tmp_path: Path):
    run = finished(*tiny(tmp_path, "readout=mtp"))
    words = ["sample", str(run), "--prompt", "a", "--length", "30", "--temperature", "0"]
    alone, drafted = (CliRunner().invoke(app, [*words, *knobs]) for knobs in ([], ["--draft", "self"]))
    assert drafted.stdout == alone.stdout
    said = re.fullmatch(r"draft: (\d+) of (\d+) guesses accepted \(\d+%\), (\d+) passes\n", drafted.stderr)
    assert said is not None
    assert int(said[1]) + int(said[3]) == 30


def test_a_run_of_before_there_was_a_choice_of_embedding_writes_the_same(run: Path, tmp_path: Path):
    older = shutil.copytree(run, tmp_path / "older")
    config = yaml.safe_load((older / "config.yaml").read_text())
    del config["embedding"]
    (older / "config.yaml").write_text(yaml.safe_dump(config))
    assert read_recipe(older).hash == read_recipe(run).hash
    new, old = (CliRunner().invoke(app, ["sample", str(folder), "--length", "9"]) for folder in (run, older))
    assert (old.exit_code, old.stdout) == (0, new.stdout)


def test_without_a_prompt_a_text_without_new_lines_begins_somehow(tmp_path: Path):
    (tmp_path / "line").write_text("to be or not to be " * 99)
    run = finished(*tiny(tmp_path, f"data.path={tmp_path}/line"))
    said = CliRunner().invoke(app, ["sample", str(run), "--length", "5"])
    assert (said.exit_code, len(said.stdout)) == (0, 5 + len("\n"))


@pytest.mark.thorough
def test_samples_come_as_they_are_written(run: Path):
    command = [sys.executable, "-m", "gptlab", "sample", str(run), "--prompt", "the", "--length", "2000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(20)
        first = time.monotonic()
        assert process.poll() is None
        rest = process.stdout.read()
    assert len(rest) > 1500
    assert time.monotonic() - first > 0.1


@pytest.mark.parametrize(("arguments", "line"), [
    (["{run}", "--prompt", "the é"], "--prompt='the é': tokenizer=char has never seen '\\xe9' (U+00E9) at character 4"),
    (["{run}", "--prompt", ""], "--prompt is empty; give a text of one character or more, or none at all"),
    (["{run}", "--beyond", "refuse"], "1 + 500 tokens go beyond model.context=16; try beyond=crop"),
    (["{run}", "--repetition", "0"], "repetition=0.0 is not in [1e-6, 1e9]; 1 changes nothing, 1.2 is usual"),
    (["{run}", "--draft", "{run}", "--stop", "."], "--stop does not go with --draft; leave one of them out"),
    (["{run}", "--draft", "self"], "draft=self: readout.mtp=0, so no layer predicts further ahead; train with readout"),
    (["/none"], "/none is no run folder; see `python -m gptlab runs`"),
    (["{bare}/config.yaml"], "{bare}/config.yaml is no run folder; say {bare}"),
    (["{bare}"], "{bare} has no checkpoint `last`; it has none at all"),
])  # fmt: skip
def test_what_cannot_be_sampled_is_told_in_one_line(arguments: list[str], line: str, run: Path, tmp_path: Path):
    bare = shutil.copytree(run, tmp_path / "bare")
    shutil.rmtree(bare / "checkpoints")
    done = gptlab("sample", *(one.format(run=run, bare=bare) for one in arguments))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: " + line.format(bare=bare))
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "wrong", ["--length=0", "--top-p=0", "--top-p=2", "--temperature=-1", "--which=first", "--foo"]
)
def test_wrong_options_end_with_status_2(wrong: str, run: Path):
    done = gptlab("sample", str(run), wrong)
    assert (done.returncode, done.stdout) == (2, "")
    assert wrong.split("=")[0] in done.stderr
    assert "Traceback" not in done.stderr


# -- runs


def test_runs_are_a_table_with_the_best_first(run: Path, tmp_path: Path):
    def copied(name: str, **changed: object) -> Path:
        folder = shutil.copytree(run, tmp_path / "runs" / name)
        (folder / "summary.json").write_text(json.dumps({**summary(run), **changed}))
        return folder

    copied("good", **{"val/loss": 1.0})
    copied("worse", **{"val/loss": 2.0})
    diverged = copied("diverged")
    known = {key: value for key, value in summary(run).items() if not key.startswith(("val/", "time/"))}
    (diverged / "summary.json").write_text(json.dumps({**known, "status": "diverged", "steps": 12}))
    for name in ("unfinished", "busy"):  # both have come to their last row
        (copied(name) / "summary.json").unlink()
    with RunFolder(tmp_path / "runs" / "busy").lock():
        done = gptlab("runs", "--outputs", str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    head, *lines = [line.split() for line in done.stdout.splitlines()]
    assert head == ["run", "val/loss", "bits/byte", "params", "steps", "time", "status"]
    assert [line[0] for line in lines[:2]] == ["good", "worse"]
    found = {line[0]: line[1:] for line in lines}
    assert found["good"][:1] + found["good"][-1:] == ["1.0000", "finished"]
    assert found["diverged"][-2:] == ["12", "diverged"]
    assert found["unfinished"] == ["40", "unfinished"]
    assert found["busy"] == ["40", "at", "work"]


def test_names_of_runs_stay_whole(run: Path):
    done = gptlab("runs", "--outputs", str(run.parents[1]))
    assert run.name in done.stdout
    assert summary(run)["status"] in done.stdout


def test_no_runs_are_told_with_the_way_to_one(tmp_path: Path):
    done = gptlab("runs", "--outputs", str(tmp_path))
    assert done.returncode == 0
    assert done.stdout.endswith("yet; start one: python train.py\n")


# -- help


def test_help_names_every_command_and_option():
    said = gptlab("--help").stdout
    assert "sample" in said
    assert "runs" in said
    said = gptlab("sample", "--help", COLUMNS="120").stdout
    for option in ("prompt", "length", "temperature", "top-k", "top-p", "seed", "which"):
        assert f"--{option}" in said
    assert max(map(len, said.splitlines())) <= 120


def test_a_run_of_another_version_is_refused_in_one_line(run: Path, tmp_path: Path):
    old = tmp_path / "old"
    shutil.copytree(run, old)
    config = (old / "config.yaml").read_text()
    (old / "config.yaml").write_text(re.sub("^vocab_multiple: .*\n", "", config, flags=re.M))
    done = gptlab("sample", str(old))
    assert (done.returncode, done.stdout) == (2, "")
    assert "was made by another gptlab (vocab_multiple: no value given); load it with that of commit" in done.stderr


@pytest.mark.parametrize(
    ("file", "content", "line"),
    [
        (
            "tokenizer.json",
            '{"a": 1}',
            "tokenizer.json is not as it was written (KeyError('characters')); put",
        ),
        (
            "tokenizer.json",
            "[]",
            "tokenizer.json holds no dict in JSON; put a copy of it back, or remove it and repeat",
        ),
        ("config.yaml", "callback: null", "callback in its config.yaml holds no choice; put a copy of it back, or"),
        ("config.yaml", "- 1", "its config.yaml or run.json cannot be read ("),
        ("config.yaml", "tokenizer: []", "tokenizer in its config.yaml holds no choice; put a copy of it back, or"),
        ("run.json", '{"choices": null}', "its config.yaml or run.json cannot be read ("),
    ],
)
def test_a_damaged_file_of_a_run_is_told_in_one_line(run: Path, tmp_path: Path, file: str, content: str, line: str):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / file).write_text(content)
    done = program("-m gptlab", "sample", str(tmp_path / "run"), "--length", "3")
    assert done.status == 2
    assert line in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["runs", "--wide"], "No such option: --wide"),
        (["runs", "outputs"], "Got unexpected extra argument"),
        (["explain"], "Missing argument 'choice'"),
        (["slots", "--search"], "Option '--search' requires an argument"),
        (["serve", "--port", "x"], "Invalid value for '--port': "),
        (["trian"], "No such command 'trian'"),
        (["sample", "RUN", "--length", "x"], "Invalid value for '--length': "),
    ],
)
def test_words_that_no_command_takes_are_refused_in_one_line_with_where_to_look(words: list[str], line: str):
    done = program("-m gptlab", *words)
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1), done.err
    assert done.err.startswith(f"error: {line}")
    assert re.search(r"; see \S.* --help\n", done.err)


def test_without_a_command_there_is_the_list_of_them():
    done = program("-m gptlab")
    assert done.status == 2
    assert "judge" in done.out + done.err


def test_a_campaign_is_a_name_of_one_folder():
    done = program("-m gptlab", "confirm", "outputs/ablations/nope")
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert done.err.startswith("error: campaign=outputs/ablations/nope is no name of one folder")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["runs", "--outputs", "{run}/config.yaml"], "--outputs={run}/config.yaml is no folder; give the one that"),
        (["runs", "--outputs", "{pool}"], "--outputs={pool} is a folder of runs itself; say --outputs {outputs}"),
        (["explain", "gqa"], "gqa: no such slot; say attention=gqa"),
        (["explain", "=gqa"], "'': no such slot; choose from attention, "),
        (["search", "/none"], "/none is not there; give a file that is, or a folder with one"),
        (["search", "{run}", "--mapping", "/none"], "--mapping=/none is not there; give a file that is"),
        (["export", "{run}/checkpoints", "--to", "hf"], "{run}/checkpoints is no run folder; say {run}"),
    ],
)
def test_a_slip_is_told_with_what_was_meant(words: list[str], line: str, run: Path):
    places = {"run": run, "pool": run.parent, "outputs": run.parents[1]}
    done = program("-m gptlab", *(word.format(**places) for word in words))
    assert (done.status, done.err.count("\n")) == (2, 1), done.err
    assert done.err.startswith(f"error: {line.format(**places)}")


# -- slots


def print_slots(word: str, width: int, *, is_terminal: bool) -> list[str]:
    """The lines of a search of the menu."""
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=is_terminal, color_system=None, highlight=False)
    print_menu(describe_menu(StudyOptions, word), console)
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 140])
def test_the_menu_fits_a_terminal_and_is_a_line_an_entry_elsewhere(width: int):
    lines = print_slots("attention", width, is_terminal=False)
    assert lines == print_slots("attention", 40, is_terminal=False)
    assert max(map(len, lines)) > 200
    assert not re.findall(r"=(?:None|True|False)\b", "\n".join(print_slots("", width, is_terminal=False)))
    shown = print_slots("attention", width, is_terminal=True)
    assert max(map(len, shown)) <= width
    assert len(shown) > len(lines)
    assert [line for line in shown if line.startswith("* attention=mha")] == ["* attention=mha"]  # whole, to be copied
    assert "".join("".join(shown).split()) == "".join("".join(lines).split())
