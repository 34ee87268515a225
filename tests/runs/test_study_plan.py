"""Laws of study.json: one type is written and read back, whatever gptlab wrote it; what is no plan is refused."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from gptlab.ablation.options import StudyOptions
from gptlab.errors import Refused
from gptlab.report.publish import read_tracking
from gptlab.runs.record import REMEDY
from gptlab.runs.study_folder import StudyFolder, read_plan
from gptlab.stats.study_plan import Adjustment, StudyPlan

TRAINED = StudyPlan(
    study="attention-1a2b3c",
    design="grid",
    limits={"params": 2e6},
    seeds=[0, 3],
    baseline="attention=mha",
    tune="shared",
    variance="pooled",
    delta=0.01,
    axes={"attention": ["mha", "gqa"]},
    versus=[("attention=gqa", "attention=mha")],
    base=["model=nano"],
    arms={"attention=mha": ["attention=mha"], "attention=gqa": ["attention=gqa", "mlp.hidden=352"]},
    arm_values={"attention=mha": (("attention", "mha"),), "attention=gqa": (("attention", "gqa"),)},
    settled={"attention=mha": [], "attention=gqa": [Adjustment("mlp.hidden", 352, "mlp.hidden=352 so that ...")]},
    cells=["nano-mha-s0-1a2b3c4d"],
    seconds={"nano-mha-s0-1a2b3c4d": 7.5},
    counts={"attention=mha": {"params": 212_480}},
)
MEASURED = StudyPlan(study="latency-4d5e6f", kind="latency", knobs={"batches": [1, 8], "follow_up": None})
OLDEST: dict[str, Any] = {
    "study": "old",
    "arms": {"base": []},
    "cells": ["nano-s0"],
    "command": ["python", "ablate.py"],
}


def written(folder: Path, document: Any) -> Path:
    path = folder / "study.json"
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize("plan", [TRAINED, MEASURED], ids=["trained", "measured"])
def test_a_plan_is_read_back_as_it_was_written(tmp_path: Path, plan: StudyPlan):
    folder = StudyFolder(tmp_path / "ablations" / "x")
    folder.save_plan(plan, {})
    assert folder.plan == plan


def test_a_plan_holds_every_knob_of_a_study():
    assert {field.name for field in fields(StudyOptions)} <= {field.name for field in fields(StudyPlan)}


def test_files_of_older_and_newer_versions_are_read(tmp_path: Path):
    oldest = StudyPlan(**OLDEST, arm_values={"base": (("", "base"),)})
    assert read_plan(written(tmp_path, OLDEST)) == oldest
    newer = {**OLDEST, "seeds": 3, "of_tomorrow": {}}
    assert read_plan(written(tmp_path, newer)) == replace(oldest, seeds=[0, 1, 2])


def test_an_older_file_has_its_arms_by_their_labels_alone(tmp_path: Path):
    arms = {f"{size}/attention={value}": [] for size in ("nano", "mini") for value in ("mha", "gqa")}
    sized = {"axes": {"model": ["nano", "mini"], "attention": ["mha", "gqa"]}, "design": "grid"}
    plan = read_plan(written(tmp_path, {**OLDEST, **sized, "arms": arms}))
    assert plan.arm_values == TRAINED.arm_values


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ([], "holds no dict"),
        ({}, "no study, no arms, no cells"),
        ({"name": "a package", "version": 1}, "no study, no arms, no cells"),
        ({**OLDEST, "seeds": ["one"]}, "seeds is not a list of ints"),
        ({**OLDEST, "settled": {"base": [["mlp.hidden", 352]]}}, "settled is not"),
        ({**OLDEST, "delta": -1.0}, "delta is below 0"),
        ({**OLDEST, "variance": "none"}, "variance is not one of auto, own, pooled, moderated"),
    ],
)
def test_what_is_no_plan_is_refused_in_one_line(tmp_path: Path, document: Any, told: str):
    with pytest.raises(Refused, match=REMEDY) as refused:
        read_plan(written(tmp_path, document))
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_event_whose_run_is_no_name_is_refused_in_one_line(tmp_path: Path):
    (tmp_path / "ledger.jsonl").write_text('{"key": "a", "status": "finished", "run": ["b"]}\n')
    with pytest.raises(Refused, match="names no run; put a copy of the file back"):
        StudyFolder(tmp_path).read_states()


def test_a_plan_without_cells_has_no_tracking_and_is_refused_in_one_line(tmp_path: Path):
    written(tmp_path, {**OLDEST, "cells": []})
    with pytest.raises(Refused, match=REMEDY) as refused:
        read_tracking(tmp_path)
    assert "study.json names no cells" in str(refused.value)
