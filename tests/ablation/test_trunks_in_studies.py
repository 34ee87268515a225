"""Budgets of a study share a trunk under schedule=wsd: less is trained, and every number stays what it was."""

import json
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from forked_process import Forked
from tiny_runs import COMPARED, Done, finished, numbers, program, tiny

from gptlab.runs.study_folder import StudyFolder

STUDY = ["model.heads=2", "save_every=7", "metric=[bits_per_byte]", "timing=0", "seeds=2", "steps=40"]
BUDGETS = ["schedule=wsd", "budget=[0.5,2]"]


def words(pool: Path, *more: str) -> list[str]:
    """Return the overrides of a tiny study of three budgets."""
    given = {word.partition("=")[0] for word in more}
    usual = [*tiny(pool), *STUDY, *BUDGETS, "jobs=1"]
    return [*(word for word in usual if word.partition("=")[0] not in given), *more]


def ablate(pool: Path, *more: str) -> Done:
    return program("ablate.py", *words(pool, *more))


def read_runs(pool: Path) -> dict[str, Path]:
    """Return the run folder of every cell of the only study of a pool, all of them finished."""
    (file,) = (pool / "ablations").glob("*/study.json")
    folder = StudyFolder(file.parent)
    states = folder.read_states()
    assert {states[key].status for key in folder.plan.cells} == {"finished"}
    return {key: folder.pool / states[key].run for key in folder.plan.cells}


def read_facts(run: Path) -> dict[str, Any]:
    return json.loads((run / "run.json").read_text())


def count_trained_steps(runs: dict[str, Path]) -> int:
    """Count the steps that these runs took, without those that their trunks took for them."""
    summaries = [json.loads((run / "summary.json").read_text()) for run in runs.values()]
    shared = sum(read_facts(run).get("trunk_step", 0) for run in runs.values())
    return sum(summary["steps"] for summary in summaries) - shared


def list_numbers(runs: dict[str, Path]) -> list[Any]:
    """Return what the runs computed, in an order that is not that in which they ran."""
    computed = [numbers(run) for run in runs.values()]
    return sorted(
        computed, key=lambda each: (each["summary"]["seed"], each["summary"]["steps"], each["summary"]["params"])
    )


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of three budgets and two seeds, two cells at once in processes of their own."""
    pool = tmp_path_factory.mktemp("budgets")
    done = ablate(pool, "jobs=2")
    assert done.status in COMPARED, done.err
    return pool


@pytest.mark.thorough
def test_every_cell_of_a_trunk_is_the_run_that_train_makes_of_its_overrides(pool: Path, tmp_path: Path):
    runs = read_runs(pool)
    (file,) = (pool / "ablations").glob("*/study.json")
    for key, run in runs.items():
        cell = StudyFolder(file.parent).read_cell(key)
        if cell["seed"] == 1:
            alone = [word for word in cell["overrides"] if not word.startswith(("outputs=", "branches="))]
            assert numbers(run) == numbers(finished(*alone, f"outputs={tmp_path}"))


def test_three_budgets_cost_at_most_1_35_of_the_largest(pool: Path):
    runs = read_runs(pool)
    assert len(runs) == 6
    assert sum("trunk" in read_facts(run) for run in runs.values()) == 4
    assert count_trained_steps(runs) == 2 * (80 + 8 + 4)  # alone: 2 * (80 + 40 + 20)
    assert count_trained_steps(runs) / (2 * 80) <= 1.35


def test_the_bill_tells_what_trunks_save(tmp_path: Path):
    done = ablate(tmp_path, "dry_run=true")
    assert done.status == 0, done.err
    line = "4 cells branch off 2 trunks of 80 steps: 184 steps for 280 (34% less), the same numbers"
    assert line in " ".join(done.out.split())
    assert "branch off" not in ablate(tmp_path, "dry_run=true", "schedule=cosine").out


@pytest.mark.thorough
def test_arms_beside_the_baseline_and_the_control_train_alone(tmp_path: Path):
    done = ablate(tmp_path, "attention=mha,gqa", "aa=true", "seeds=1", "keep=best", "budget=[2]")
    assert done.status in COMPARED, done.err
    runs = read_runs(tmp_path)
    branched = [key for key, run in runs.items() if "trunk" in read_facts(run)]
    assert len(runs) == 4
    assert len(branched) == 1
    assert not any("gqa" in key or key.endswith("-twin") for key in branched)
    # the A/A control says of the branch what it would say of a whole run
    twin, own = (numbers(runs[branched[0] + suffix]) for suffix in ("-twin", ""))
    assert twin == own
    assert not list((tmp_path / "runs").glob("*/branches/*.ckpt"))  # keep=best: used, they go


@pytest.mark.slow
def test_a_study_killed_while_it_trains_has_the_same_numbers(pool: Path, tmp_path: Path):
    process = Forked("ablate.py", *words(tmp_path, "jobs=2"))
    while len(list(tmp_path.glob("runs/*/checkpoints/last.ckpt"))) < 2:
        assert process.poll() is None, process.communicate(timeout=60)
        time.sleep(0.01)
    time.sleep(random.Random(3).uniform(0, 1))
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    time.sleep(1)  # its workers notice, save and stop
    done = ablate(tmp_path)
    assert done.status in COMPARED, done.err
    assert list_numbers(read_runs(tmp_path)) == list_numbers(read_runs(pool))


def test_a_budget_that_no_branch_serves_is_refused(tmp_path: Path):
    done = ablate(tmp_path, "budget=[0.05,2]", "schedule.warmup=0.1")
    assert (done.status, done.err) == (
        2,
        "error: budget=0.05 of 40 steps is no branch of theirs: schedule.warmup_steps=4 and decay=0.2 are more than "
        "the 2 steps of the run; give less, or more steps\n",
    )
    assert not (tmp_path / "runs").exists()


def test_a_study_finds_its_trunks_by_itself(tmp_path: Path):
    for word in ("trunk=x", "branches=[0.5]"):
        done = ablate(tmp_path, word)
        line = f"error: {word.partition('=')[0]}=... is of one run; a study finds its trunks by itself: schedule=wsd "
        assert (done.status, done.err) == (2, f"{line}budget=[0.5,2]\n")
