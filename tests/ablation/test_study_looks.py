"""Looks at real studies: planned before the first run, spent in order, raced over, and the same after a kill."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from forked_process import Forked
from tiny_runs import Done, program, tiny

from gptlab.report.findings import compare_study_folder
from gptlab.runs.study_folder import StudyFolder

STUDY = ["model.heads=2", "steps=12", "save_every=6", "metric=[bits_per_byte]", "timing=0", "jobs=1", "name=looked"]
JUDGED = (0, 3)
"""Statuses of a study that was judged: all arms are decided, or some are not resolved."""
RACE = [
    "design=star",
    "norm=rmsnorm,layernorm",
    "model.lr=2e-3",
    "optimizer.lr=2e-3,1e-3",
    "until=resolved",
    "looks=[2,3,4]",
    "delta=1e-4",
]
"""Half the rate is seen at once; a norm that changes next to nothing is open after 2 seeds, and hopeless after 3."""


def words(pool: Path, *more: str) -> list[str]:
    return [*tiny(pool), *STUDY, *more]


def ablate(pool: Path, *more: str) -> Done:
    """python ablate.py, in this process."""
    return program("ablate.py", *words(pool, *more))


def folder(pool: Path) -> StudyFolder:
    return StudyFolder(pool / "ablations" / "looked")


def contrasts(pool: Path) -> dict[str, Any]:
    """What is concluded of the loss, by arm."""
    comparison = compare_study_folder(folder(pool).path).strata[0].comparisons[0]
    return {contrast.arm: contrast for contrast in comparison.contrasts}


def plainly(text: str) -> str:
    return " ".join(text.split())


def test_a_study_is_judged_look_by_look_under_the_plan_that_it_began_with(tmp_path: Path):
    axis, plan = "attention=mha,gqa", "looks=[2,3]"
    first = ablate(tmp_path, axis, plan, "seeds=2")
    assert first.status in JUDGED, first.err
    assert "looks at 2, 3 seeds: look 1 of 2, alpha .038 of .05 spent" in first.out
    assert "look 1 of 2, alpha .038 of .05 spent" in plainly(first.out.partition("loss in nats/token")[2])
    study = json.loads((folder(tmp_path).path / "study.json").read_text())
    assert (study["looks"], study["spending"], "looked" in study) == ([2, 3], "pocock", False)
    look = json.loads((folder(tmp_path).path / "comparison.json").read_text())["strata"][0]["comparisons"][0]["look"]
    assert (look["number"], look["planned"], look["seeds"]) == (1, [2, 3], 2)

    other = ablate(tmp_path, axis, "looks=[2,3,4]", "seeds=3")
    assert other.status == 2
    assert other.err.count("\n") == 1
    assert "judged under another plan; say looks=[2,3] spending=pocock" in other.err

    swapped = ablate(tmp_path, axis, plan, "seeds=[2,3]")  # a first look once more, at other seeds
    assert (swapped.status, swapped.err.count("\n")) == (2, 1)
    assert "seeds=[2,3]: this study has been judged by seeds [0,1]" in swapped.err
    assert "add to them, as in seeds=[0,1,2,3], or give another name=" in swapped.err

    second = ablate(tmp_path, axis, plan, "seeds=3")
    assert "look 2 of 2, alpha .05 of .05 spent" in plainly(second.out)
    (contrast,) = contrasts(tmp_path).values()
    assert contrast.level < 0.04  # something was spent at the first look
    assert not contrast.exploratory

    beyond = ablate(tmp_path, axis, plan, "seeds=4")
    assert "looks at 2, 3 seeds: after look 2 of 2, with more than the 3 planned seeds: exploratory" in beyond.out
    assert "(exploratory)" in beyond.out
    assert "Exploratory: more seeds than planned." in plainly(beyond.out)
    assert folder(tmp_path).read_looked() == [2, 3, 4]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["looks=[5,3]"], "looks=[5, 3] must increase; try [3, 5]"),
        (["looks=[3,3]"], "looks=[3, 3] must increase; try [3]"),
        (["looks=[1,3]"], "looks=[1, 3]: a look needs 2 seeds or more"),
        (["looks=[]"], "looks=[] plans no look"),
        (["spending=all"], "spending='all' is not one of pocock, hwang_shih_decani, obrien_fleming"),
        (["until=resolved", "tune=grid"], "until=resolved does not go with tune=grid"),
        (["until=resolved", "seeds=[4,5]"], "seeds=[4, 5] does not go with until=resolved"),
    ],
)
def test_a_plan_that_is_none_is_refused_in_one_line(tmp_path: Path, asked: list[str], told: str):
    done = ablate(tmp_path, "attention=mha,gqa", *asked)
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert told in done.err
    assert not folder(tmp_path).path.exists()


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A study that went from look to look, and what it printed."""
    pool = tmp_path_factory.mktemp("raced")
    done = ablate(pool, *RACE)
    assert done.status in JUDGED, done.err
    return pool, done.out


def test_until_resolved_adds_seeds_only_to_arms_that_are_open(raced: tuple[Path, str]):
    pool, out = raced
    found = contrasts(pool)
    slow, still_open = found["optimizer.lr=0.001"], found["norm=layernorm"]
    first, _, rest = out.partition("look 2 of 3, 3 seeds:")
    assert "norm=layernorm open (the last look resolves it in" in first.partition("look 1 of 3, 2 seeds:")[2]
    assert "optimizer.lr=0.001 worse" in first
    assert "norm=layernorm stops: the last look would resolve it in" in rest.splitlines()[0]
    assert (slow.verdict, slow.seeds) == ("worse", (0, 1))
    assert (still_open.verdict, still_open.seeds, still_open.more_seeds) == ("not resolved", (0, 1, 2), None)
    seeds = {(run.arm, run.seed) for run in compare_study_folder(folder(pool).path).runs}
    assert {seed for arm, seed in seeds if arm == "optimizer.lr=0.001"} == {0, 1}
    assert {seed for arm, seed in seeds if arm == "norm=layernorm"} == {0, 1, 2}
    assert folder(pool).read_looked() == [2, 3]


@pytest.mark.slow
def test_a_race_that_is_killed_takes_the_same_looks(raced: tuple[Path, str], tmp_path: Path):
    process = Forked("ablate.py", *words(tmp_path, *RACE))
    while process.poll() is None and not any(
        event["key"].endswith("-s2") or "-s2-" in event["key"] for event in folder(tmp_path).read_events()
    ):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = ablate(tmp_path, *RACE)
    assert done.status in JUDGED, done.err
    assert contrasts(tmp_path) == contrasts(raced[0])
    assert folder(tmp_path).read_looked() == folder(raced[0]).read_looked()
