"""What a difference in loss is worth: the baseline at several budgets, each with its own whole schedule.

slope s = dL / d ln(compute) < 0; an arm dL better is worth exp(dL / s) times the compute; net of speed its difference
is dL - s ln(time / time of the baseline). Intervals by the delta method, the slope's error included.
"""

import math
import statistics as plain
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from gptlab.ablation.outcome import STEP, Comparison, Exchange, Run, Timing

WORTH = 0.02
"""Of the training compute: what a difference that does not matter may be worth."""


@dataclass(frozen=True)
class Ladder:
    """Slope of the baseline's loss over ln(budget), its standard error, and the mean losses."""

    slope: float
    error: float
    means: dict[float, float]


def ladder(budgets: list[Run], base: list[Run]) -> Ladder | None:
    """Fits a line in each seed that has two budgets or more; their spread over seeds is the error."""
    seeds: dict[int, dict[float, float]] = {}
    for run in sorted([*base, *budgets], key=lambda run: (run.seed, run.budget)):
        if run.status == "finished" and math.isfinite(run.values.get("val/loss", math.nan)):
            seeds.setdefault(run.seed, {})[run.budget] = run.values["val/loss"]
    lines = {seed: one for seed, one in seeds.items() if len(one) > 1}
    if not lines or not budgets:
        return None
    slopes = [float(np.polyfit(np.log(list(one)), list(one.values()), 1)[0]) for _, one in sorted(lines.items())]
    means = {
        budget: plain.fmean(one[budget] for one in seeds.values() if budget in one)
        for budget in sorted({b for one in seeds.values() for b in one})
    }
    error = plain.stdev(slopes) / math.sqrt(len(slopes)) if len(slopes) > 1 else 0.0
    return Ladder(plain.fmean(slopes), error, means)


def margin(delta: float | None, made: Ladder | None) -> tuple[float, str] | None:
    """The difference that does not matter, and where it comes from; none leaves it to the loss itself."""
    if delta is not None:
        return delta, "asked for"
    if made is None or made.slope >= 0:
        return None
    return abs(made.slope) * math.log(1 + WORTH), "the loss worth 2 % of training compute"


def exchange(made: Ladder | None, loss: Comparison, timings: list[Timing]) -> Exchange | None:
    """What each arm's difference is worth; none where more training does not help the baseline."""
    if made is None or made.slope >= 0:
        return None
    ratios: Mapping[str, tuple[float, float, float]] = next((one.ratios for one in timings if one.metric == STEP), {})
    worth, net = {}, {}
    for one in loss.contrasts:
        if one.verdict in ("unstable", "no verdict") or one.df <= 0:
            continue
        error, edge = one.sd / math.sqrt(len(one.seeds)), float(stats.t.ppf(0.975, one.df))
        logs = one.difference / made.slope
        width = edge * math.hypot(error / made.slope, one.difference * made.error / made.slope**2)
        worth[one.arm] = (math.exp(logs), math.exp(logs - width), math.exp(logs + width))
        if one.arm in ratios:
            ratio, low, high = ratios[one.arm]
            slower, shaky = math.log(ratio), (math.log(high) - math.log(low)) / 3.92
            left = one.difference - made.slope * slower
            width = edge * math.sqrt(error**2 + (slower * made.error) ** 2 + (made.slope * shaky) ** 2)
            net[one.arm] = (left, left - width, left + width)
    return Exchange(made.slope, made.error, made.means, worth, net)
