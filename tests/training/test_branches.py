"""The law of branches: off a trunk, a run computes what it computes when it is meant for its budget from the start."""

import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import ended, finished, numbers, start, tiny, train

from gptlab import compose as wiring
from gptlab.runs.checkpoint import load_checkpoint
from gptlab.training.branching.trunk import build_schedule, count_trunk_steps, hash_trunk, list_saved_points

RECIPE = [
    *("schedule=wsd", "schedule.warmup_steps=3", "dropout=0.1", "accumulate=2", "sample.count=2"),
    *("callback=[gradient_norms,ema]", "callback.gradient_norms.every=3"),
]
"""What a branch must take from its trunk beside the weights: moments, averages, rows, samples."""


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 80 steps with branch points for runs of 20 and of 40 steps."""
    return finished(*tiny(tmp_path_factory.mktemp("trunk"), *RECIPE, "steps=80", "branches=[0.25,0.5]"))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Runs that were meant for their steps from the start, and never heard of a trunk."""
    pool = tmp_path_factory.mktemp("alone")
    return {steps: finished(*tiny(pool, *RECIPE, f"steps={steps}")) for steps in (20, 40, 80)}


def branch(pool: Path, trunk: Path, steps: int, *more: str) -> list[str]:
    """Return the overrides of a branch."""
    return tiny(pool, *RECIPE, f"steps={steps}", f"trunk={trunk}", *more)


def weights(folder: Path, name: str) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / "checkpoints" / f"{name}.ckpt")["state_dict"]


def assert_same_run(folder: Path, other: Path) -> None:
    """Compare rows, samples, summary and all checkpoints, bit for bit."""
    assert numbers(folder) == numbers(other)
    for name in ("last", "best"):
        there = (folder / "checkpoints" / f"{name}.ckpt").exists()
        assert there == (other / "checkpoints" / f"{name}.ckpt").exists()
        if there:
            torch.testing.assert_close(weights(folder, name), weights(other, name), rtol=0, atol=0)


@pytest.mark.thorough
@pytest.mark.parametrize("steps", [20, 40])
def test_a_branch_is_the_run_of_its_budget_bit_for_bit(trunk: Path, alone: dict[int, Path], tmp_path: Path, steps: int):
    done = train(*branch(tmp_path, trunk, steps))
    assert (done.status, done.err) == (0, "")
    assert f"branches off {trunk.name} after step {steps * 4 // 5}" in done.out
    assert_same_run(done.folder, alone[steps])


def test_a_trunk_is_the_run_that_has_no_branches(trunk: Path, alone: dict[int, Path]):
    assert_same_run(trunk, alone[80])
    assert list_saved_points(trunk) == [16, 32]  # a fifth before 20 and 40, where their cooldowns begin


def test_a_branch_may_cool_down_later_or_otherwise_than_its_trunk_foresaw(trunk: Path, tmp_path: Path):
    cooled = ["schedule.decay=0.1", "schedule.shape=one_minus_sqrt"]
    done = train(*branch(tmp_path / "branch", trunk, 40, *cooled))
    assert done.status == 0, done.err
    assert "after step 32" in done.out  # its own cooldown begins after 36
    assert numbers(done.folder) == numbers(finished(*tiny(tmp_path / "alone", *RECIPE, "steps=40", *cooled)))


# -- killed


LONG = [*RECIPE, "schedule.decay=0.5", "save_every=20"]


def kill_once_saved(pool: Path, words: list[str], name: str) -> Path:
    """Start a run in a process of its own, kill it while it trains, once a checkpoint is there; return its folder."""
    process = start(*words)
    while not list(pool.glob(f"runs/*/checkpoints/{name}.ckpt")):
        assert process.poll() is None, ended(process)
        time.sleep(0.01)
    time.sleep(random.Random(name).uniform(0, 0.2))
    process.send_signal(signal.SIGKILL)
    assert ended(process).status == -signal.SIGKILL
    (folder,) = (pool / "runs").iterdir()
    assert not (folder / "summary.json").exists()
    return folder


@pytest.mark.slow
def test_a_trunk_that_was_killed_has_the_same_branches(tmp_path: Path):
    folder = kill_once_saved(tmp_path, tiny(tmp_path, *LONG, "steps=200", "branches=[0.5]"), "last")
    resumed = train(f"resume={folder}")
    assert (resumed.status, resumed.err) == (0, "")
    assert list_saved_points(folder) == [50]
    done = train(*tiny(tmp_path, *LONG, "steps=100", f"trunk={folder}"))
    assert done.status == 0, done.err
    assert_same_run(done.folder, finished(*tiny(tmp_path / "alone", *LONG, "steps=100")))


@pytest.mark.thorough
def test_a_branch_that_was_killed_goes_on_to_the_same_end_without_its_trunk(tmp_path: Path):
    folder = finished(*tiny(tmp_path / "trunk", *LONG, "steps=200", "branches=[0.75]"))
    words = tiny(tmp_path / "killed", *LONG, "steps=150", f"trunk={folder}")
    killed = kill_once_saved(tmp_path / "killed", words, "previous")  # what it took from the trunk was its `last`
    shutil.rmtree(folder)
    done = train(f"resume={killed}")
    assert (done.status, done.err) == (0, "")
    assert_same_run(killed, finished(*tiny(tmp_path / "alone", *LONG, "steps=150")))


def test_a_branch_that_was_killed_before_its_checkpoint_was_there_starts_over(
    trunk: Path, alone: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr("gptlab.training.branching.trunk.link_or_copy", interrupt)
        train(*branch(tmp_path, trunk, 40))
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "metrics.jsonl").exists()
    assert not list(folder.rglob("last.ckpt"))
    done = train(f"resume={folder}")
    assert "no checkpoint: from the start" in done.out
    assert numbers(folder) == numbers(alone[40])


# -- the rate


def wsd(steps: int, *more: str) -> Any:
    return wiring.compose(["schedule=wsd", f"steps={steps}", *more])


@pytest.mark.parametrize("shape", ["linear", "one_minus_sqrt"])
@pytest.mark.parametrize(("shorter", "longer"), [(37, 38), (100, 1000), (499, 1234), (400, 401)])
def test_the_rate_before_a_cooldown_is_that_of_every_longer_run(shorter: int, longer: int, shape: str):
    recipes = [wsd(steps, "schedule.warmup_steps=7", f"schedule.shape={shape}") for steps in (shorter, longer)]
    rates = [
        [build_schedule(each)((step + 1) / (each.config["steps"] + 1)) for step in range(each.config["steps"])]
        for each in recipes
    ]
    last = count_trunk_steps(recipes[0])
    assert rates[0][:last] == rates[1][:last]
    assert rates[0][last] < rates[1][last] == 1.0
    assert rates[0][:8] == [1 / 7, 2 / 7, 3 / 7, 4 / 7, 5 / 7, 6 / 7, 1.0, 1.0]
    assert last == pytest.approx(0.8 * shorter, abs=1)


def test_warmup_as_a_part_of_the_run_is_the_same_in_steps():
    assert hash_trunk(wsd(400)) == hash_trunk(wsd(800, "schedule.warmup_steps=20"))
    assert build_schedule(wsd(400)).mean() == pytest.approx(0.885, abs=1e-3)


def test_recipes_share_a_trunk_that_differ_in_steps_and_cooldown_alone():
    one = wsd(400, "schedule.warmup_steps=20")
    for same in (["schedule.decay=0.1"], ["schedule.floor=0.0"], ["keep=best"], ["branches=[0.5]"]):
        assert hash_trunk(wsd(900, "schedule.warmup_steps=20", *same)) == hash_trunk(one) != ""
    for other in (["seed=1"], ["attention=mqa"], ["clip=2"], ["optimizer.lr=1e-4"], ["schedule.warmup_steps=21"]):
        assert hash_trunk(wsd(900, "schedule.warmup_steps=20", *other)) not in (hash_trunk(one), "")
    for none in (["schedule=cosine"], ["max_minutes=1"], ["change=[prune]", "change.prune.start=null"]):
        assert hash_trunk(wiring.compose(["schedule=wsd", *none])) == ""


# -- refused


@pytest.mark.parametrize(("words", "line"), [
    ("schedule=cosine branches=[0.5]", "branches=[0.5]: schedule=cosine has no stable part; say schedule=wsd"),
    ("schedule=constant branches=[0.5]", "branches=[0.5]: schedule=constant has no stable part; say schedule=wsd"),
    ("schedule=wsd branches=[2]", "branches=[2] are no parts of this run's 40 steps, in (0, 1); python ablate.py "
     "schedule=wsd budget=[0.5,2] seeds=1 runs a whole family"),
    ("schedule=wsd schedule.warmup_steps=9 branches=[0.25]", "branches=[0.25]: 0.25 of 40 steps is no branch: "
     "schedule.warmup_steps=9 and decay=0.2 are more than the 10 steps of the run; give less, or more steps"),
    ("schedule=wsd schedule.warmup=0.2 schedule.decay=0.8 branches=[0.5]", "branches=[0.5]: its 40 steps have no "
     "stable part between warm-up and cooldown; give more steps"),
    ("schedule=wsd max_minutes=1 branches=[0.5]",
     "branches=[0.5]: max_minutes=1 ends a run by the clock, not by its steps; leave it out"),
    ("schedule=wsd schedule.warmup_steps=-1", "schedule.warmup_steps=-1 is negative; 0 is none"),
])  # fmt: skip
def test_a_budget_that_no_branch_serves_is_refused_in_one_line(tmp_path: Path, words: str, line: str):
    done = train(*tiny(tmp_path, *words.split()))
    assert (done.status, done.err) == (2, f"error: {line}\n")
    assert not list(tmp_path.iterdir())


def test_a_trunk_that_does_not_fit_is_refused_in_one_line(trunk: Path, tmp_path: Path):
    for words, line in {
        "attention=mqa": f"trunk={trunk} is a run of another recipe: attention.kv_heads (4 there, 1 here)",
        "schedule.warmup_steps=4": f"trunk={trunk} is a run of another recipe: schedule.warmup_steps (3 there, 4 here)",
        "steps=10": f"trunk={trunk} has branch points at steps 16, 32, and the cooldown of steps=10 begins after 8; "
        "leave trunk out, or train a trunk with branches=[...]",
        f"trunk={tmp_path}": f"trunk={tmp_path} is no run folder: it holds no run.json; see `python -m gptlab runs`",
    }.items():
        given = words.partition("=")[0]
        known = [word for word in branch(tmp_path, trunk, 40) if word.partition("=")[0] != given]
        done = train(*known, words)
        assert (done.status, done.err) == (2, f"error: {line}\n")
        assert not list(tmp_path.iterdir())
