"""Laws of the studies of compression: arms are alike but for what is asked, and what is stored is what was counted."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import composed
from tiny_runs import COMPARED, TINY, finished, program, tiny

from gptlab import compose as wiring
from gptlab.config.recipe import flatten
from gptlab.study.mixed_precision import MixedPrecision, find_family
from gptlab.study.mxint8 import MXInt8
from gptlab.study.prune import Prune
from gptlab.study.quantize import Quantize
from gptlab.training.build import build_decoder
from gptlab.weights.format.integer import Integer
from gptlab.weights.format.mx import Microscaling


@pytest.mark.parametrize(
    "study",
    [
        Quantize(widths=[4, 8], rounds="both", fraction="tensor"),
        Quantize(widths=[4], rounds="activation", fraction="row"),
        Prune(sparsities=[0.5, 0.9], methods=["l1", "random"], ramp=0.5),
    ],
    ids=["both", "activation", "prune"],
)
def test_arms_differ_in_their_changes_alone_and_can_be_built(study: Quantize | Prune):
    base = composed(*TINY, "steps=8", "change=[lora]")
    arms = study.arms(base)
    (first, plain), *others = arms.items()
    assert plain == []
    for name, words in others:
        recipe = wiring.compose([*TINY, "steps=8", "change=[lora]", *words])
        assert wiring.check_recipe(recipe) == [], name
        kept = {key: value for key, value in flatten(recipe.config).items() if not key.startswith("change.")}
        assert kept == {key: value for key, value in flatten(base.config).items() if not key.startswith("change.")}
        assert next(iter(recipe.config["change"])) == "lora"  # what was there comes first
    assert {one for pair in study.versus() for one in pair} <= arms.keys() - {first}


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: Quantize(widths=[1]), r"widths=\[1\] are no widths from 2 to 32; try"),
        (lambda: Quantize(widths=[4], last=1.0), r"last=1.0 is not in \(0, 1\)"),
        (lambda: Prune(sparsities=[1.0], methods=["l1"]), r"sparsities=\[1.0\] are not all in \(0, 1\); try"),
        (lambda: Prune(sparsities=[0.5], methods=["l2"]), r"methods=\['l2'\] are not of l1 and random; try"),
        (lambda: MXInt8(formats=[]), r"formats=\[\] packs nothing; try"),
        (lambda: MixedPrecision(kinds={"int4": Integer}), "run is missing: a trained run is rounded"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Any, line: str):
    with pytest.raises(ValueError, match=line):
        make()


@pytest.mark.thorough
def test_a_study_of_pruning_compares_its_methods_too(tmp_path: Path):
    words = ["study=prune", "study.sparsities=[0.5]", "seeds=2", "timing=0", "name=pruned"]
    done = program("ablate.py", *tiny(tmp_path), *words)
    assert done.status in COMPARED, done.err
    (one,) = json.loads((tmp_path / "ablations" / "pruned" / "comparison.json").read_text())["strata"]
    (pair,) = one["comparisons"][0]["pairs"]
    # one training, changed: what a tenth of the weights costs says nothing of what half of them does
    assert one["comparisons"][0]["variance"] == "own"
    assert (pair["arm"], pair["against"]) == ("l1 sparsity=0.5", "random sparsity=0.5")
    assert {arm["arm"] for arm in one["comparisons"][0]["arms"]} >= {"dense", "l1, untrained sparsity=0.5"}


def test_arms_of_its_own_leave_no_axes(tmp_path: Path):
    done = program("ablate.py", *tiny(tmp_path), "study=quantize", "norm=layernorm,rmsnorm")
    assert done.status == 2
    assert "study=quantize has arms of its own; leave norm out, or give one value" in done.err


def test_packed_weights_take_a_quarter_and_say_nearly_the_same():
    study = MXInt8(formats=["int8", "mxint8"], vocab=64, batch=1, rounds=1)
    base = composed(*TINY, "model.width=64", "model.heads=2")
    arms = {
        name: wiring.compose([*TINY, "model.width=64", "model.heads=2", *w]) for name, w in study.arms(base).items()
    }
    said: dict[Any, Any] = {(row.arm, row.metric): row.value for row in study(arms, 0, build_decoder, Path())}
    assert said["mxint8", "of packed"] == pytest.approx(8.25 / 32, rel=0.02)
    assert said["int8", "of packed"] < 0.27
    assert said["mxint8", "of packed"] < said["mxint8", "of all"] < 1
    assert said["mxint8", "RMSE/std"] < 0.05
    assert {arm for arm, metric in said if metric == "ms/pass"} == {"float32", "int8", "mxint8", "A/A"}


def test_mixing_formats_is_at_least_as_good_as_what_it_begins_with(tmp_path: Path):
    run = finished(*tiny(tmp_path))
    kinds = {
        "int3": lambda: Integer(width=3, fraction_width="tensor"),
        "mxfp4": lambda: Microscaling(element="e2m1", block=32),
    }
    study = MixedPrecision(run=str(run), kinds=kinds, trials=4, tokens=64)
    study.check({"a": composed(*TINY)})
    said: dict[Any, Any] = {
        (row.arm, row.metric): row.value for row in study({"a": composed(*TINY)}, 0, build_decoder, Path())
    }
    assert said["float", "mean bits"] == 32
    assert said["int", "mean bits"] == 3 or said["int", "loss"] < said["float", "loss"] + 0.3
    for family in ("int", "mxfp"):
        assert said["mixed", "objective"] <= said[f"{family} trial=1", "best objective"] + 1e-9
    assert said["mixed trial=3", "best objective"] <= said["mixed trial=1", "best objective"]
    assert said["mixed", "objective"] == pytest.approx(said["mixed", "loss"] + 0.01 * said["mixed", "mean bits"])
    assert [*map(find_family, ("int4", "mxfp8", "log"))] == ["int", "mxfp", "log"]


def test_pruning_begins_after_so_many_steps():
    words = [*TINY, "change=[prune]", "change.prune.start=3", "change.prune.ramp=4", "change.prune.every=2"]
    made = build_decoder(wiring.compose(words), 31)
    pruning: Any = made.get_submodule("pruning")
    found = []
    for step in range(8):
        pruning.after_step(step)
        found.append(round(pruning.summary_metrics()["sparsity"], 2))
    assert found == [0, 0, 0, 0, 0.44, 0.44, 0.5, 0.5]
    with torch.no_grad():
        assert all(mask.kept.float().mean().item() == pytest.approx(0.5, abs=0.01) for mask in pruning.masks.values())
