"""Laws of runs that are not over: every command that takes one says so, where it stands and how to go on."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors import safe_open
from tiny_runs import finished, program, tiny

from gptlab.commands.formats.model_card import render_model_card
from gptlab.config.places import TRAIN
from gptlab.runs.record import RunFolder, read_rows


@pytest.fixture(scope="module")
def over(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 40 steps."""
    return finished(*tiny(tmp_path_factory.mktemp("over")))


@pytest.fixture
def run(over: Path, tmp_path: Path) -> Path:
    """The same run, as if it had been killed after step 39: its last checkpoint is that of step 35."""
    folder = shutil.copytree(over, tmp_path / "runs" / over.name)
    (folder / "summary.json").unlink()
    (folder / "checkpoints" / "previous.ckpt").replace(folder / "checkpoints" / "last.ckpt")
    rows = [row for row in read_rows(folder / "metrics.jsonl") if row["step"] < 40]
    RunFolder(folder).rewind(len(rows), 0)
    return folder


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A minimal pair."""
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps({"sentence_good": "the software", "sentence_bad": "the the the"}) + "\n")
    return file


def ask(*words: object) -> tuple[dict[str, Any], list[str]]:
    """The object of a command, and the lines on its stderr that are no part of what it prints."""
    done = program("-m gptlab", *map(str, words), "--json")
    assert done.status in (0, 1), done.err
    return json.loads(done.out.splitlines()[-1]), done.err.splitlines()


WEIGHTS = "step 35 of 40, and its weights here are those of step 35"


def test_a_command_that_takes_weights_says_whose_they_are(run: Path, pairs: Path, tmp_path: Path):
    line = f"{run} is unfinished: {WEIGHTS}; go on with: {TRAIN} resume={run}"
    fact = {"folder": str(run), "step": 35, "steps": 40, "at_work": False, "resume": f"{TRAIN} resume={run}"}
    for words in (
        ["sample", run, "--length", 3],
        ["evaluate", run, "--pairs", pairs],
        ["export", run, "--to", "hf", "--into", tmp_path / "hf"],
        ["export", run, "--to", "safetensors", "--into", tmp_path / "safetensors"],
        ["export", run, "--format", "int8", "--into", tmp_path / "packed"],
    ):
        done = program("-m gptlab", *map(str, words))
        assert (done.status, done.err.splitlines()) == (0, [line]), words
        if words[0] == "export":
            shutil.rmtree(tmp_path / str(words[-1]))
        answer, _ = ask(*words)
        assert answer["unfinished"] == [{**fact, "weights_step": 35}], words


def test_a_finished_run_needs_no_word(over: Path, pairs: Path):
    for words in (["sample", over, "--length", 3], ["evaluate", over, "--pairs", pairs], ["report", over]):
        done = program("-m gptlab", *map(str, words))
        assert (done.status, done.err) == (0, "")
        answer, _ = ask(*words)
        assert answer["unfinished"] == []
    (entry,) = json.loads((over / "downstream.json").read_text())["last"].values()
    assert entry["step"] == 40


def test_a_run_at_work_is_not_to_be_resumed(run: Path):
    with RunFolder(run).lock():
        answer, lines = ask("sample", run, "--length", 3)
    assert f"{run} is still at work: {WEIGHTS}" in lines
    assert (answer["unfinished"][0]["at_work"], answer["unfinished"][0]["resume"]) == (True, None)
    assert not (run / ".lock").exists() or not RunFolder(run).is_busy()


def test_to_ask_whether_a_run_is_at_work_writes_nothing(run: Path):
    (run / ".lock").unlink(missing_ok=True)
    part = run / ".summary.json.1.part"
    part.touch()
    assert not RunFolder(run).is_busy()
    assert part.exists()
    assert not (run / ".lock").exists()


def test_what_is_exported_says_that_it_is_not_the_end(run: Path, tmp_path: Path):
    end = "is unfinished: these are its weights of step 35 of 40"
    assert f"**The run {end}.**" in render_model_card(run)
    for words in (["--to", "safetensors"], ["--format", "int8"]):
        assert program("-m gptlab", "export", str(run), *words, "--into", str(tmp_path / words[1])).status == 0
    with safe_open(tmp_path / "safetensors" / "model.safetensors", "pt") as file:
        assert file.metadata() == {"run": f"{run.name} {end}"}
    packed = tmp_path / "int8"
    assert json.loads((packed / "summary.json").read_text())["unfinished"] == "step 35 of 40"
    said = program("-m gptlab", "sample", str(packed), "--length", "3").err
    assert said == f"{packed} was packed from an unfinished run: step 35 of 40\n"


def test_a_gguf_file_says_so_too(run: Path):
    gguf = pytest.importorskip("gguf", reason="gguf is not installed")
    assert program("-m gptlab", "export", str(run), "--to", "gguf").status == 0
    field = gguf.GGUFReader(run / "model.gguf").fields["general.description"]
    assert field.contents() == "the run is unfinished: these are its weights of step 35 of 40"


def test_a_run_that_diverged_says_of_which_step_its_weights_are(run: Path):
    summary = {"status": "diverged", "reason": "step 38: the loss is not finite"}
    (run / "summary.json").write_text(json.dumps(summary))
    end = "diverged at step 38: the loss is not finite: these are its weights of step 35"
    assert program("-m gptlab", "sample", str(run), "--length", "3").err == f"{run} {end}\n"
    assert f"**The run {end}.**" in render_model_card(run)


def test_a_run_without_a_checkpoint_says_how_to_go_on_before_it_is_refused(run: Path):
    shutil.rmtree(run / "checkpoints")
    done = program("-m gptlab", "sample", str(run))
    told, error = done.err.splitlines()
    assert told == f"{run} is unfinished: step 35 of 40; go on with: {TRAIN} resume={run}"
    assert error.startswith("error: ")


def test_a_log_that_cannot_be_read_hides_no_weights(run: Path):
    (run / "metrics.jsonl").write_text('{"step": "x"}\n{"step": 5}\n')
    done = program("-m gptlab", "sample", str(run), "--length", "3")
    assert (done.status, done.err.count("step ? of 40, and its weights here are those of step 35")) == (0, 1)
    done = program("-m gptlab", "report", str(run))
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert 'metrics.jsonl has a line that is no row: \'{"step": "x"}\'; put a copy of it back' in done.err


def test_a_text_where_a_number_is_meant_is_told_and_hides_no_other_run(over: Path, run: Path):
    summary = json.loads((over / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps({**summary, "val/loss": "low"}))
    for words in (["report", run], ["export", run, "--to", "hf"]):
        done = program("-m gptlab", *map(str, words))
        assert (done.status, done.err.count("\n")) == (2, 1)
        assert f"{run}/summary.json: val/loss='low' is no number; put a copy of it back" in done.err
    assert not (run / "hf").exists()
    shutil.copytree(over, run.parent / "other")
    listed = program("-m gptlab", "runs", "--outputs", str(run.parents[1])).out
    assert [line.rsplit("  ", 1)[1].strip() for line in listed.splitlines()[1:]] == ["finished", "not whole"]
    (run / "summary.json").unlink()
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("\nsteps: 40", "\nsteps: ten"))
    for command in ("report", "sample"):
        said = program("-m gptlab", command, str(run)).err
        assert said.startswith(f"error: {run}: steps='ten' in its config.yaml is no number of steps; put a copy")


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"null"])
def test_an_evaluation_that_is_cut_off_is_refused_by_its_report(over: Path, tmp_path: Path, content: bytes):
    folder = shutil.copytree(over, tmp_path / "runs" / over.name)
    (folder / "evaluation.npz").write_bytes(content)
    (folder / "report.html").unlink(missing_ok=True)  # of a test before
    done = program("-m gptlab", "report", str(folder))
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert f"{folder}/evaluation.npz is not as it was written (" in done.err
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize("value", [None, "x"])
def test_a_summary_of_which_a_value_is_no_number_has_a_report_or_a_line(over: Path, tmp_path: Path, value: object):
    folder = shutil.copytree(over, tmp_path / "runs" / over.name)
    summary = json.loads((over / "summary.json").read_text())
    for key in ("val/loss", "params", "val/word_accuracy_floor", "val/word_accuracy", "time/total_s", "device"):
        (folder / "summary.json").write_text(json.dumps({**summary, key: value}))
        done = program("-m gptlab", "report", str(folder))
        if done.status:
            assert done.err.startswith(f"error: {folder}/summary.json"), done.err
            assert (done.status, done.err.count("\n"), key in done.err) == (2, 1, True)
        else:
            assert key == "device" or value is None


@pytest.mark.parametrize(("key", "value"), [("status", []), ("steps", None)])
def test_a_summary_that_is_not_whole_hides_no_run_in_table_and_index(over: Path, run: Path, key: str, value: object):
    summary = json.loads((over / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps({**summary, key: value}))
    whole = shutil.copytree(over, run.parent / "other")
    listed = program("-m gptlab", "runs", "--outputs", str(run.parents[1])).out
    assert [line.rsplit("  ", 1)[1].strip() for line in listed.splitlines()[1:]] == ["finished", "not whole"]
    assert program("-m gptlab", "report", str(whole)).status == 0
    assert "not whole" in (run.parents[1] / "index.html").read_text()


@pytest.mark.parametrize("wrong", [{"model": {}}, {"batch_size": None}, {"attention": {}}, {"content": 1}])
def test_a_config_that_lacks_what_every_run_has_is_refused(over: Path, tmp_path: Path, wrong: dict[str, Any]):
    folder = shutil.copytree(over, tmp_path / "runs" / over.name)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump({**config, **wrong}))
    for command in ("report", "sample"):
        done = program("-m gptlab", command, str(folder))
        assert (done.status, done.err.count("\n")) == (2, 1)
        assert f"error: {folder}: {next(iter(wrong))}" in done.err


def test_the_page_of_a_run_says_where_it_stands(run: Path):
    answer, lines = ask("report", run)
    assert f"{run} is unfinished: step 35 of 40; go on with: {TRAIN} resume={run}" in lines
    assert "weights_step" not in answer["unfinished"][0]
    page = (run / "report.html").read_text()
    assert "step 35 of 40; it goes on with:" in page
    assert f"{TRAIN} resume={run}" in page


def test_runs_that_are_compared_are_named_where_they_are_not_over(run: Path, over: Path):
    for command in ("compare", "judge"):
        answer, lines = ask(command, over, run, run)
        assert [entry["folder"] for entry in answer["unfinished"]] == [str(run)]
        assert f"{run} is unfinished: step 35 of 40; go on with: {TRAIN} resume={run}" in lines


def test_a_study_that_was_stopped_says_how_many_cells_are_done(tmp_path: Path):
    words = [*tiny(tmp_path, "steps=5", "attention=mha,gqa", "seeds=1", "timing=0", "jobs=1"), "name=stopped"]
    assert program("ablate.py", *words).status == 3
    study = tmp_path / "ablations" / "stopped"
    ledger = [json.loads(line) for line in (study / "ledger.jsonl").read_text().splitlines()]
    last = [event["key"] for event in ledger if event["status"] == "finished"][-1]
    (study / "ledger.jsonl").write_text("".join(json.dumps(event) + "\n" for event in ledger if event["key"] != last))
    # lines that are no events of a cell are passed over, as those that a kill cut short
    with (study / "ledger.jsonl").open("ab") as file:
        file.write(b'[1]\n"x"\n{"key": 3}\n\xff\xfe\n{"key": "k')
    for command in ("report", "compare", "judge", "card"):
        answer, lines = ask(command, study)
        (entry,) = answer["unfinished"]
        assert (entry["done"], entry["cells"]) == (1, 2)
        assert f"{study} is unfinished: 1 of 2 cells are done; go on with: {entry['resume']}" in lines, command
        assert "ablate.py" in entry["resume"]
