"""Laws of register=true: a plan is frozen before the first run, and the report says whether it was kept."""

import json
from dataclasses import replace
from pathlib import Path

import planted_runs as planted
import pytest
from tiny_runs import COMPARED, Done, program, tiny

from gptlab.errors import Refused
from gptlab.runs.registration import FROZEN, describe_adherence, refuse_changed_plan, write_registration
from gptlab.runs.study_folder import StudyFolder
from gptlab.stats.study_plan import StudyPlan

STUDY = ["steps=10", "metric=[bits_per_byte]", "timing=0", "jobs=1", "name=asked", "optimizer.lr=1e-3,2e-3"]
PLAN = StudyPlan(study="asked", baseline="base", looks=[3, 5], arms={"base": [], "other": ["clip=0.5"]})


def ablate(pool: Path, *more: str) -> Done:
    return program("ablate.py", *tiny(pool), *STUDY, *more)


def plainly(text: str) -> str:
    return " ".join(text.split())


def test_a_study_registers_its_plan_before_any_run_and_says_that_it_kept_to_it(tmp_path: Path):
    plan = ["looks=[2,3]", "seeds=2", "register=true"]
    assert ablate(tmp_path, *plan, "dry_run=true").status == 0
    assert not (tmp_path / "ablations").exists()  # a bill registers nothing
    unplanned = ablate(tmp_path, "looks=[2,3]", "seeds=4", "register=true")  # the command itself would break the plan
    assert (unplanned.status, unplanned.err.count("\n")) == (2, 1)
    assert "and seeds=4 would judge where no look is planned; say seeds=2, or looks=[4]" in unplanned.err
    done = ablate(tmp_path, *plan)
    assert done.status in COMPARED, done.err
    assert done.out.index("plan registered at") < done.out.index("1/4")
    for line in (
        "question  ",
        "metric    val/loss in nats/token",
        "margin    equivalent within 0.5 %",
        "looks     Looks at",
    ):
        assert line in done.out
    assert ", before any run, and kept to the letter." in plainly(done.out)
    registered = json.loads((tmp_path / "ablations/asked/registered.json").read_text())
    assert registered["plan"]["looks"] == [2, 3]
    assert set(registered["code"]) == {"optimizer.lr=0.001", "optimizer.lr=0.002"}
    changed = ablate(tmp_path, "looks=[2,3]", "seeds=3", "delta=0.1")  # also without register=true
    assert (changed.status, changed.err.count("\n")) == (2, 1)
    assert "delta=0.1: registered at" in changed.err
    path = tmp_path / "ablations/asked/registered.json"
    path.write_text(path.read_text().replace('"delta": null', '"delta": 0.1'))
    edited = ablate(tmp_path, "looks=[2,3]", "seeds=3", "delta=0.1")
    assert edited.status == 2
    assert "was changed after it was registered" in edited.err


def test_a_study_that_has_begun_cannot_be_registered(tmp_path: Path):
    StudyFolder(tmp_path / "ablations/asked").path.mkdir(parents=True)
    StudyFolder(tmp_path / "ablations/asked").record_event("cell", "finished")
    done = ablate(tmp_path, "register=true")
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert "asked has begun, and a plan is registered before its first run; give another name=" in done.err


def register(folder: Path, **facts: object) -> None:
    document = PLAN.to_document()
    frozen = {key: document[key] for key in FROZEN}
    write_registration(
        folder, frozen, {"code": {"base": "c0", "other": "c0"}, "data": ["d0"], "known_runs": 0, **facts}
    )


def register_plan_without(folder: Path, key: str) -> None:
    document = PLAN.to_document()
    write_registration(folder, {name: document[name] for name in FROZEN if name != key}, {})


def adherence(folder: Path, seeds: int = 3, looked: tuple[int, ...] = (3,), code: str = "c0") -> str:
    runs = [replace(run, facts={"code": code, "data_sha256": "d0"}) for run in planted.runs(seeds, other=-0.1)]
    (line,) = describe_adherence(folder, replace(PLAN, looked=[*looked]), runs)
    return line


def test_the_report_names_each_departure_from_the_plan(tmp_path: Path):
    assert describe_adherence(tmp_path, PLAN, []) == []  # nothing was registered
    register(tmp_path)
    assert adherence(tmp_path).endswith(", before any run, and kept to the letter.")
    assert "not kept: judged with 4 seeds, where no look was planned" in adherence(tmp_path, looked=(3, 4))
    assert "runs of other code: base, other" in adherence(tmp_path, code="c1")
    (line,) = describe_adherence(tmp_path, replace(PLAN, delta=0.1), planted.runs(3))
    assert "not kept: delta is another; no run of other has finished" in line
    register(tmp_path, known_runs=4)
    assert ", when 4 of its runs were there already, and kept" in adherence(tmp_path)


@pytest.mark.parametrize("key", FROZEN)
def test_each_frozen_key_stays(tmp_path: Path, key: str):
    register(tmp_path)
    document = PLAN.to_document()
    frozen = {name: document[name] for name in FROZEN}
    refuse_changed_plan(tmp_path, frozen)
    # a plan of an older gptlab, which froze fewer keys, binds by those that it has
    register_plan_without(tmp_path / "older", key)
    refuse_changed_plan(tmp_path / "older", {**frozen, key: "something else"})
    with pytest.raises(Refused, match="a registered plan stays") as refused:
        refuse_changed_plan(tmp_path, {**frozen, key: "something else"})
    assert "\n" not in str(refused.value)
