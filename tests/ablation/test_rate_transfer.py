"""Laws of tune=transfer: rates are tuned at the smallest rung, shown at the second, and carried to all others."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import composed
from planted_ladders import judge_ladder
from planted_runs import judged
from test_design_and_cells import knobs
from tiny_runs import COMPARED, TINY, program

from gptlab.ablation.cells import Variant, make_cells
from gptlab.report.figures.ladder import draw_transfer
from gptlab.report.text.sentences import describe_tuning
from gptlab.report.text.view import View
from gptlab.stats.labels import read_label
from gptlab.stats.results import Findings, Run, Stratum

SIZES = ["nano", "micro", "mini"]
RATES = (0.001, 0.003, 0.01)


def plant(best: dict[str, float]) -> Findings:
    """A ladder whose losses are parabolas over ln rate, the least at `best` of each size; mini runs at 0.003 alone."""
    found: list[Run] = []
    for run in judge_ladder({"good": [0.05] * 3}).runs:
        for rate in RATES if run.size != "mini" else [0.003]:
            off = 0.1 * math.log(rate / best[run.size]) ** 2
            found.append(replace(run, lr=rate, values={**run.values, "val/loss": run.values["val/loss"] + off}))
    return judged(found, ladder=SIZES, tune="transfer")


def describe_first(findings: Findings, stratum: Stratum) -> str:
    """What is said of the rates of the first arm of a rung."""
    return str(describe_tuning(View(findings.plan, stratum, stratum.comparisons[0]), stratum.tunings[0]))


def test_larger_rungs_are_judged_at_the_rate_that_was_best_at_the_smallest():
    findings = plant({"nano": 0.003, "micro": 0.01, "mini": 0.003})
    nano, micro, mini = (stratum.tunings for stratum in findings.strata)
    assert {(tuning.best, tuning.carried_loss) for tuning in nano} == {(0.003, None)}
    for tuning in micro:
        assert tuning.best == 0.003
        assert not tuning.edge  # a carried rate is no bound
        assert tuning.carried_loss == pytest.approx((0.01, 0.1 * math.log(0.01 / 0.003) ** 2))
    assert {(tuning.best, tuning.carried_loss, tuning.sensitivity) for tuning in mini} == {(0.003, None, None)}
    # what decides is the run at the carried rate
    micro_runs = [run for run in findings.strata[1].runs if run.lr == 0.003 and run.arm == "base"]
    mean = sum(run.values["val/loss"] for run in micro_runs) / len(micro_runs)
    assert next(arm for arm in findings.strata[1].comparisons[0].arms if arm.arm == "base").mean == pytest.approx(mean)


def test_a_rate_that_is_the_best_at_both_rungs_loses_nothing():
    findings = plant(dict.fromkeys(SIZES, 0.003))
    assert {tuning.carried_loss for tuning in findings.strata[1].tunings} == {(0.003, 0.0)}
    sentences = [describe_first(findings, stratum) for stratum in findings.strata]
    assert sentences[0].startswith("base is best at 0.003")
    assert sentences[1] == "base is judged at 0.003, carried from the smallest rung, which is the best here too."
    assert sentences[2] == "base ran at 0.003, carried from the smallest rung."
    off = plant({"nano": 0.003, "micro": 0.01, "mini": 0.003})
    said = describe_first(off, off.strata[1])
    assert said == "base is judged at 0.003, carried from the smallest rung, 0.14 above the best here, 0.01."


def test_two_curves_of_each_arm_are_drawn_with_a_star_at_the_carried_rate():
    figure = draw_transfer(plant({"nano": 0.003, "micro": 0.01, "mini": 0.003}).strata)
    assert figure is not None
    assert [trace["name"] for trace in figure.data] == ["base, nano", "good, nano", "base, micro", "good, micro"]
    for trace in figure.data:
        assert trace["x"] == [*RATES]
        assert min(trace["y"]) == 0
        assert [symbol == "star" for symbol in trace["marker"]["symbol"]] == [rate == 0.003 for rate in RATES]
    assert draw_transfer(judge_ladder({"good": [0.05, 0.05]}).strata) is None


def test_two_rungs_have_the_smallest_ones_rates_and_the_others_one():
    arms = []
    for size in SIZES:
        words = [f"model={size}", "parametrization=completep"]
        arms.append(Variant(read_label("attention=gqa"), words, composed(*words), size=size))
    cells = make_cells(knobs(tune="transfer", ladder=SIZES, seeds=1), arms)
    own = composed("model=nano").config["optimizer"]["lr"]
    of_size = {size: [cell.lr for cell in cells if cell.variant.size == size] for size in SIZES}
    assert of_size["nano"] == of_size["micro"] == pytest.approx([0.5 * own, 5 * own])
    assert of_size["mini"] == [own]


TINY_LADDER = [word for word in TINY if not word.startswith(("model=", "model.layers=", "steps="))]
TINY_LADDER += ["model.heads=2", "save_every=50", "metric=[bits_per_byte]", "timing=0", "jobs=1", "name=carried"]
TINY_LADDER += ["looks=[2]", "seeds=2", "rung_tokens=[1280,1280,1280]", "ladder=[nano,micro,mini]", "tune=transfer"]


@pytest.mark.slow
def test_a_ladder_runs_the_carried_rate_alone_from_its_third_rung_on(tmp_path: Path):
    words = [*TINY_LADDER, f"outputs={tmp_path}", "parametrization=completep", "norm=rmsnorm,layernorm"]
    first = program("ablate.py", *words, "lr_grid=[0.1,1,3]")
    assert first.status in COMPARED, first.err
    folder = tmp_path / "ablations" / "carried"
    comparison: dict[str, Any] = json.loads((folder / "comparison.json").read_text())
    rates: dict[tuple[str, str], set[float]] = {}
    for run in comparison["runs"]:
        rates.setdefault((run["size"], run["arm"]), set()).add(run["lr"])
    for stratum, size in zip(comparison["strata"], SIZES, strict=True):
        for tuning in stratum["tunings"]:
            best = next(t["best"] for t in comparison["strata"][0]["tunings"] if t["arm"] == tuning["arm"])
            assert tuning["best"] == best
            expected = rates["nano", tuning["arm"]] if size != "mini" else {best}
            assert rates[size, tuning["arm"]] == expected
    assert "Loss over learning rate at nano" in (folder / "report.html").read_text()
    runs = {path.name for path in (tmp_path / "runs").iterdir()}
    again = program("ablate.py", *words, "lr_grid=[0.1,1,3]")
    assert again.status == first.status
    assert {path.name for path in (tmp_path / "runs").iterdir()} == runs


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["ladder=[nano,micro]", "tune=transfer"], "has parametrization=standard, which carries no rate"),
        (["tune=transfer", "parametrization=mup"], "tune=transfer carries rates up from a ladder's smallest rung"),
        (
            ["ladder=[nano,micro]", "tune=transfer", "parametrization=mup", "optimizer.lr=1e-3"],
            "tune=transfer sets optimizer.lr itself",
        ),
    ],
)
def test_what_carries_no_rate_is_refused_in_one_line(tmp_path: Path, words: list[str], problem: str):
    refused = program("ablate.py", *TINY_LADDER[:-4], "attention=mha,gqa", f"outputs={tmp_path}", *words)
    assert refused.status == 2
    assert problem in refused.err
    assert refused.err.count("\n") == 1
