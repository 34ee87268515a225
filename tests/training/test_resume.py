"""The law of resumption: killed at any moment and resumed, a run computes what it would have, bit for bit."""

import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_runs import ROOT, Done, ended, finished, numbers, start, start_anew, tiny, train

from gptlab.corpus.batch import Batch
from gptlab.runs import checkpoint, record
from gptlab.runs.record import RunFolder
from gptlab.training.task import Task

HARD = ["dropout=0.1", "accumulate=2", "sample.count=2", "callback=[gradient_norms]", "callback.gradient_norms.every=3"]
"""What a run must get right beside its weights."""
LONG = "steps=200"
"""Some seconds: long enough to be struck amid it."""


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the uninterrupted run lives."""
    return tmp_path_factory.mktemp("pool")


@pytest.fixture(scope="module")
def whole(pool: Path) -> dict[str, Any]:
    """What a run computes that nobody interrupts."""
    return numbers(finished(*tiny(pool, *HARD)))


def resumed(folder: Path) -> Done:
    """The run gone on with, to its end."""
    done = train(f"resume={folder}")
    assert done.status == 0, done.err
    assert done.folder == folder
    assert not list(folder.rglob("*.part"))
    return done


# -- killed


def album(folder: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str]) -> list[Path]:
    """Runs, and keeps a copy of the run folder as it stood before each line written and each file replaced."""
    copies: list[Path] = []
    # a thread writes checkpoints: it renames none while a picture is taken
    one_at_a_time = threading.RLock()

    def picture(owner: Any, name: str) -> None:
        true: Callable[..., Any] = getattr(owner, name)

        def pictured(*args: Any) -> Any:
            with one_at_a_time:
                for run in (folder / "runs").glob("*"):
                    copies.append(folder / "album" / f"{len(copies)}" / "runs" / run.name)
                    shutil.copytree(run, copies[-1])
                return true(*args)

        monkeypatch.setattr(owner, name, pictured)

    picture(record, "append_line")
    picture(Path, "replace")
    finished(*overrides)
    monkeypatch.undo()
    return copies


@pytest.mark.thorough
def test_killed_before_any_write_a_run_resumes_to_the_same_end(
    whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    copies = album(tmp_path, monkeypatch, tiny(tmp_path, *HARD))
    assert len(copies) > 30
    begun = [copy for copy in copies if (copy / "run.json").exists() and not (copy / "summary.json").exists()]
    early = train(f"resume={copies[0]}")
    assert early.status == 2
    assert early.err.endswith("is no run folder: it holds no config.yaml and run.json; see `python -m gptlab runs`\n")
    for copy in [*random.Random(0).sample(begun[:-3], 5), *begun[-3:]]:
        resumed(copy)
        assert numbers(copy) == whole, copy


@pytest.fixture(scope="module")
def long(pool: Path) -> dict[str, Any]:
    """A run of some seconds, uninterrupted."""
    return numbers(finished(*tiny(pool, *HARD, LONG)))


@pytest.mark.few(1)
@pytest.mark.parametrize("seed", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_killed_by_sigkill_a_run_resumes_to_the_same_end(long: dict[str, Any], tmp_path: Path, seed: int):
    begin = start_anew if seed == 1 else start
    wait = random.Random(seed).uniform(0, 0.7)
    folder = struck(begin(*tiny(tmp_path, *HARD, LONG)), tmp_path, signal.SIGKILL, wait).folder
    assert not (folder / "summary.json").exists()
    resumed(folder)
    assert numbers(folder) == long


def struck(process: Any, pool: Path, number: int, wait: float) -> Done:
    """A run in a process of its own that gets a signal some seconds after its first row."""
    runs = pool / "runs"
    while not list(runs.glob("*/metrics.jsonl")):
        assert process.poll() is None, ended(process)
        time.sleep(0.01)
    time.sleep(wait)
    process.send_signal(number)
    done = ended(process)
    assert done.status == (-number if number == signal.SIGKILL else 128 + number), done
    return done if number != signal.SIGKILL else done._replace(out=str(next(runs.iterdir())))


# -- told to stop


@pytest.mark.thorough
@pytest.mark.few(1)
@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, pytest.param(signal.SIGUSR1, marks=pytest.mark.slow)]
)
def test_a_signal_saves_at_the_end_of_the_step_and_says_how_to_go_on(
    long: dict[str, Any], tmp_path: Path, number: signal.Signals
):
    done = struck(start(*tiny(tmp_path, *HARD, LONG)), tmp_path, number, 0.3)
    step = checkpoint.load_checkpoint(done.folder / "checkpoints" / "last.ckpt")["global_step"]
    line = f"stopped by {number.name} after step {step}; go on with: python train.py resume={done.folder}\n"
    assert done.err == line
    assert not (done.folder / "summary.json").exists()
    again = ended(start(f"resume={done.folder}")) if number == signal.SIGINT else train(f"resume={done.folder}")
    assert (again.status, again.err) == (0, "")
    assert f"going on from step {step}" in again.out
    assert numbers(again.folder) == long


def test_a_signal_while_samples_are_written_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as struck_there:
        struck_there.setattr(
            "gptlab.training.run.write_final_samples", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM)
        )
        done = train(*tiny(tmp_path))
    assert (done.status, done.err) == (143, f"stopped; go on with: python train.py resume={done.folder}\n")
    assert not (done.folder / "summary.json").exists()
    assert train(f"resume={done.folder}").status == 0
    assert (done.folder / "summary.json").exists()


@pytest.mark.slow
def test_a_reader_that_goes_does_the_run_no_harm(tmp_path: Path):
    command = shlex.join([sys.executable, "-u", "train.py", *tiny(tmp_path, "sample.count=1")])
    subprocess.run(f"{command} | head -1", shell=True, cwd=ROOT, env=os.environ, timeout=120, check=True)
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "summary.json").exists()


def test_a_resumed_run_finds_its_text_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("text").write_text("to be or not to be, that is the question. " * 99)
    signalled(monkeypatch, 9)
    folder = tmp_path / train(*tiny(Path("pool")), "data.path=text").folder
    monkeypatch.chdir("/")
    assert train(f"resume={folder}").status == 0


@pytest.mark.thorough
@pytest.mark.parametrize(("step", "micro"), [(1, 0), (13, 1), (14, 0), (20, 1), (39, 0)])
def test_a_signal_amid_a_step_stops_at_its_end(
    whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, micro: int
):
    signalled(monkeypatch, step, micro)
    done = train(*tiny(tmp_path, *HARD))
    assert done.status == 130
    assert f"stopped by SIGINT after step {step};" in done.err
    resumed(done.folder)
    assert numbers(done.folder) == whole


def signalled(monkeypatch: pytest.MonkeyPatch, step: int, micro: int = 0, times: int = 1) -> None:
    """This process will get SIGINT in a micro-batch, once."""
    true, left = Task.training_step, [times]

    def interrupted(task: Task, batch: Batch, index: int) -> torch.Tensor:
        while left[0] and (task.global_step + 1, index % task.accumulate) == (step, micro):
            left[0] -= 1
            os.kill(os.getpid(), signal.SIGINT)
        return true(task, batch, index)

    monkeypatch.setattr(Task, "training_step", interrupted)


def test_a_signal_in_the_last_step_lets_the_run_end(
    whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    signalled(monkeypatch, 40)
    assert numbers(finished(*tiny(tmp_path, *HARD))) == whole


def test_a_second_signal_ends_at_once(whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    signalled(monkeypatch, 17, times=2)
    done = train(*tiny(tmp_path, *HARD))
    assert (done.status, done.err) == (130, f"stopped; go on with: python train.py resume={done.folder}\n")
    assert "going on from step 14" in resumed(done.folder).out
    assert numbers(done.folder) == whole


def test_stopped_again_and_again_a_run_comes_to_the_same_end(
    whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for step in (3, 4, 22, 38):
        signalled(monkeypatch, step)
        done = train(*tiny(tmp_path, *HARD, "resume=auto"))
        assert done.status == 130
    assert len(list((tmp_path / "runs").iterdir())) == 1
    resumed(done.folder)
    assert numbers(done.folder) == whole


# -- torn checkpoints


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run stopped after step 24, with checkpoints of 21 and 24."""
    with pytest.MonkeyPatch.context() as patch:
        signalled(patch, 24)
        return train(*tiny(tmp_path_factory.mktemp("stopped"), *HARD)).folder


@pytest.fixture
def folder(stopped: Path, tmp_path: Path) -> Path:
    """A copy of the stopped run."""
    return shutil.copytree(stopped, tmp_path / "runs" / stopped.name)


class Bomb:
    """Runs code where pickle reads it."""

    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/gptlab-bomb",)


def tear(path: Path, how: str) -> None:
    """Makes a checkpoint unreadable."""
    content = path.read_bytes()
    if how == "bomb":
        torch.save({"state_dict": Bomb()}, path)
    else:
        path.write_bytes({"empty": b"", "half": content[: len(content) // 2], "noise": b"\x93" * len(content)}[how])


@pytest.mark.parametrize("how", ["empty", "half", "noise", "bomb"])
def test_a_torn_last_checkpoint_falls_back_to_the_one_before_aloud(whole: dict[str, Any], folder: Path, how: str):
    tear(folder / "checkpoints" / "last.ckpt", how)
    out = resumed(folder).out
    assert re.search(r"last\.ckpt cannot be read \(\w+\)\n  going on from step 21\n", out)
    assert numbers(folder) == whole
    assert not Path("/tmp/gptlab-bomb").exists()


@pytest.mark.parametrize("kept", [True, False])
def test_without_a_readable_checkpoint_a_run_begins_anew_aloud(whole: dict[str, Any], folder: Path, kept: bool):
    for name in ("last", "previous"):
        path = folder / "checkpoints" / f"{name}.ckpt"
        tear(path, "half") if kept else path.unlink()
    out = resumed(folder).out
    assert out.count("cannot be read") == 2 * kept
    assert "from the start" in out
    assert numbers(folder) == whole


def test_a_run_whose_empty_folder_of_checkpoints_was_lost_begins_anew(whole: dict[str, Any], folder: Path):
    shutil.rmtree(folder / "checkpoints")  # of a run that was killed before its first; many copies leave it out
    assert finished(f"resume={folder}") == folder
    assert numbers(folder) == whole


@pytest.mark.parametrize("key", ["data_sha256", "id", "code", "git", "threads"])
def test_a_run_json_that_lacks_what_a_run_goes_on_with_is_refused_in_one_line(folder: Path, key: str):
    facts = {name: value for name, value in RunFolder(folder).read_facts().items() if name != key}
    (folder / "run.json").write_text(json.dumps(facts if key != "threads" else {**facts, key: None}))
    done = train(f"resume={folder}")
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert f"{folder}/run.json: {key} is missing or not as it was written; put a copy of it back" in done.err


def test_a_row_cut_short_is_written_again(whole: dict[str, Any], folder: Path):
    with (folder / "metrics.jsonl").open("a") as metrics, (folder / "samples.jsonl").open("ab") as samples:
        metrics.write('{"step": 25, "tok')
        samples.write('{"step": 26, "text": "é'.encode()[:-1])
    resumed(folder)
    assert numbers(folder) == whole


def test_checkpoints_hold_tensors_and_plain_values_only(stopped: Path):
    names = {file.stem: torch.load(file, weights_only=True) for file in (stopped / "checkpoints").iterdir()}
    assert {name: held["global_step"] for name, held in names.items()} == {"last": 24, "previous": 21, "best": 20}


# -- what is resumed


def test_a_checkpoint_of_before_residuals_had_their_name_goes_on_the_same(whole: dict[str, Any], folder: Path):
    for path in (folder / "checkpoints").glob("*.ckpt"):
        saved = checkpoint.load_checkpoint(path)
        old = {name.replace("_residual.", "_wire."): value for name, value in saved["state_dict"].items()}
        assert old.keys() != saved["state_dict"].keys()
        torch.save({**saved, "state_dict": old}, path)
    resumed(folder)
    assert numbers(folder) == whole


def test_auto_goes_on_with_the_unfinished_run_of_this_config_else_starts(folder: Path, tmp_path: Path):
    same = tiny(tmp_path, *HARD, "resume=auto")
    assert finished(*same, "seed=5") != folder
    assert finished(*same) == folder
    assert finished(*same).name == f"{folder.name}-2"


def test_overrides_that_say_what_the_run_is_anyway_are_fine(whole: dict[str, Any], folder: Path, tmp_path: Path):
    assert finished(*tiny(tmp_path, *HARD, f"resume={folder}")) == folder
    assert numbers(folder) == whole


def refused(*overrides: str) -> str:
    """The line of what is refused with status 2, before anything is said."""
    done = train(*overrides)
    assert (done.status, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1
    return done.err


def test_a_run_of_another_config_is_not_resumed_and_the_keys_are_named(folder: Path, tmp_path: Path):
    line = refused(*tiny(tmp_path, *HARD, f"resume={folder}", "steps=50", "attention=gqa", "seed=3"))
    for key in ("steps (40 there, 50 here)", "seed (0 there, 3 here)", "attention.kv_heads", f"resume={folder} alone"):
        assert key in line
    assert "steps (40 there, 50 here)" in refused(*tiny(tmp_path, *HARD, f"resume={folder}", "steps=50"))


def test_a_run_that_is_over_is_not_resumed(whole: dict[str, Any], pool: Path):
    over = next(file.parent for file in pool.glob("runs/*/summary.json"))
    assert "is over already (finished); change a setting to start another run" in refused(f"resume={over}")


@pytest.mark.parametrize("name", ["", "nothing"])
def test_a_folder_of_no_run_is_not_resumed(tmp_path: Path, name: str):
    assert "is no run folder" in refused(f"resume={tmp_path / name}")
    assert not (tmp_path / "nothing").exists()


def test_a_run_at_work_elsewhere_is_not_resumed(folder: Path):
    with record.RunFolder(folder).lock():
        assert "is at work in another process" in refused(f"resume={folder}")


def test_a_run_that_learned_from_another_text_is_not_resumed(folder: Path, tmp_path: Path):
    config, text = folder / "config.yaml", tmp_path / "other.txt"
    text.write_text("another text " * 99)
    config.write_text(config.read_text().replace(f"{ROOT}/LICENSE", str(text)))
    assert f"resume={folder} learned from another text (sha256 " in refused(f"resume={folder}")


def test_the_command_to_go_on_is_right_for_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    signalled(monkeypatch, 3)
    done = train(*tiny(tmp_path, f"outputs='{tmp_path}/a b=c, (d)'"))
    command = done.err.strip().partition("go on with: python train.py ")[2]
    assert train(*shlex.split(command)).folder == done.folder


def test_a_checkpoint_of_another_gptlab_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        signalled(patch, 3)
        folder = train(*tiny(tmp_path)).folder
    path = folder / "checkpoints" / "last.ckpt"
    saved = torch.load(path, weights_only=True)
    saved["callbacks"]["Rounds"] = saved["callbacks"].pop("run")
    torch.save(saved, path)
    done = train(f"resume={folder}")
    assert done.status == 2
    assert "its checkpoints are of another gptlab; resume with commit" in done.err
    assert done.err.count("\n") == 1
    assert path.exists()


# -- runs of an older version


def test_a_run_of_before_some_keys_goes_on_and_one_of_other_keys_names_its_commit(tmp_path: Path):
    run = finished(*tiny(tmp_path, "steps=14"))
    whole = numbers(run)
    (run / "summary.json").unlink()
    config = yaml.safe_load((run / "config.yaml").read_text())
    for key in ("documents", "mask_documents", "packing"):
        del config["data"][key]
    del config["trainer"]["cuda_graph"]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    done = train(f"resume={run}")
    assert done.status == 0, done.err
    assert numbers(run) == whole
    (run / "summary.json").unlink()
    del config["attention"]["gate"]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    line = f"error: resume={run} was made by another gptlab (attention.gate: no value given); resume it with that of "
    done = train(f"resume={run}")
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert done.err.startswith(line)
