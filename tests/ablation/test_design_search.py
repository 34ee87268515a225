"""Laws of a search: it goes on as if it had not been stopped, tries nothing twice, and refuses before it trains."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from conftest import composed
from tiny_runs import COMPARED, program, tiny

from gptlab import compose as wiring
from gptlab.report.search import compute_running_best
from gptlab.study.search import Searches
from gptlab.training.final_evaluation import mean_of_halves

pytestmark = pytest.mark.thorough

pytest.importorskip("optuna", reason="optuna is not installed")
AXES = ["attention=mha,linear", "attention.kv_heads=1,2", "model.heads=1,2,3", "mlp.hidden=8,16"]
ASKED = ["design=search", "seeds=1", "timing=0", "name=found"]


def searched(pool: Path, *words: str) -> list[dict[str, Any]]:
    """The trials of a search, which leaves its record closed (Python 3.13 warns of what is not)."""
    done = program("ablate.py", *tiny(pool), *ASKED, *AXES, *words)
    assert done.status in COMPARED, done.err
    assert not [name for name in list_open_files() if name.endswith("search.db")]
    (one,) = json.loads((pool / "ablations" / "found" / "search.json").read_text())
    return one["trials"]


def list_open_files() -> list[str]:
    """The files that this process has open, where the system says so."""
    links = Path("/proc/self/fd")
    return [os.path.realpath(link) for link in links.iterdir()] if links.is_dir() else []


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """Six trials at once, and where."""
    pool = tmp_path_factory.mktemp("whole")
    return pool, searched(pool, "trials=6")


def test_a_search_goes_on_as_if_it_had_not_been_stopped(whole: tuple[Path, list[dict[str, Any]]], tmp_path: Path):
    searched(tmp_path, "trials=3")
    assert searched(tmp_path, "trials=6") == whole[1]
    arms = json.loads((tmp_path / "ablations" / "found" / "comparison.json").read_text())["asked"]["arms"]
    assert {one["arm"] for one in whole[1] if one["arm"]} <= arms.keys()


def test_a_search_takes_runs_that_are_there(whole: tuple[Path, list[dict[str, Any]]]):
    pool, trials = whole
    done = program("ablate.py", *tiny(pool), *ASKED[:-1], "name=again", *AXES, "trials=6")
    assert done.status in COMPARED, done.err
    (one,) = json.loads((pool / "ablations" / "again" / "search.json").read_text())
    assert one["trials"] == trials


def test_what_was_tried_is_not_trained_again_and_what_does_not_fit_not_at_all(whole: tuple[Path, list[dict[str, Any]]]):
    pool, trials = whole
    arms = {one["arm"] for one in trials if one["loss"] is not None}
    assert len([*(pool / "runs").iterdir()]) == len(arms | {"default"})
    refused = [one for one in trials if one["loss"] is None]
    assert refused
    assert all("does not divide" in one["reason"] for one in refused)


def test_a_knob_that_the_chosen_part_has_not_is_not_suggested(whole: tuple[Path, list[dict[str, Any]]]):
    kinds = {one["values"]["attention"]: one["values"] for one in whole[1]}
    assert ("attention.kv_heads" in kinds["mha"]) == ("kv_heads" in composed("attention=mha").config["attention"])
    assert ("attention.kv_heads" in kinds["linear"]) == ("kv_heads" in composed("attention=linear").config["attention"])


def test_the_report_shows_the_best_compute_running_best(whole: tuple[Path, list[dict[str, Any]]]):
    text = (whole[0] / "ablations" / "found" / "report.md").read_text()
    assert "test loss" in text
    assert "does not divide" in text.partition("Not trained: ")[2]
    assert compute_running_best([None, 3.0, 4.0, None, 2.0]) == [None, 3.0, 3.0, 3.0, 2.0]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["limits={params: 10}", *AXES], r"none can be trained: .*: params=.* exceeds 10"),
        (["limits={size: 10}", *AXES], "limits={size: 10} is no limit; choose from params, params_active"),
        (["model.heads=3,5"], "of 2 points that were looked at none can be trained: model.heads="),
        ([], "design=search has nothing to vary; give axes"),
        (["trials=0", *AXES], "trials=0 tries nothing; 20 is a beginning"),
        (["match=params", *AXES], "match=params does not go with design=search; leave it out"),
        (["sampler=best", *AXES], "sampler='best' is not one of tpe, random, grid"),
    ],
)
def test_an_empty_search_is_refused_before_any_compute(words: list[str], line: str, tmp_path: Path):
    import re

    done = program("ablate.py", *tiny(tmp_path), *ASKED, *words)
    assert (done.status, done.err.count("\n")) == (2, 1), done.err
    assert re.search(line, done.err), done.err
    assert not (tmp_path / "runs").exists()


def test_losses_of_both_halves_make_the_whole():
    import torch

    nats = torch.arange(7.0)
    found = mean_of_halves(nats)
    assert found["val/loss_select"] * 4 + found["val/loss_test"] * 3 == pytest.approx(nats.sum().item())


def test_strategies_take_as_many_steps_and_can_be_composed():
    base = composed("steps=40")
    study = Searches(samplers=["tpe", "grid"], repeats=2, strategies=["none", "compressed", "compressed, then trained"])
    found = study.searches("tpe", base)
    assert len({(one.name, one.repeat) for one in found}) == len(found) == 2 * 2 * 3
    for one in found:
        recipe = wiring.compose(["steps=40", *one.words])
        assert wiring.check_recipe(recipe) == []
        assert recipe.settings.steps == 40
    starts = {one.name: [word for word in one.words if "prune.start" in word] for one in found if one.sampler == "tpe"}
    assert starts == {
        "tpe, none": [],
        "tpe, compressed": ["change.prune.start=40"],
        "tpe, compressed, then trained": ["change.prune.start=20"],
    }
