"""What a difference in loss is worth: the baseline at several budgets, each with its own whole schedule.

slope s = dL / d ln(compute) < 0; an arm dL better is worth exp(dL / s) times the compute; net of speed its difference
is dL - s ln(time / time of the baseline). Intervals by the delta method: the difference, the slope and the time each
bring their own half-width, and these add in quadrature.
"""

import math
import statistics as plain
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from gptlab.stats.results import STEP, Comparison, Exchange, Run, Timing

WORTH = 0.02
"""Of the training compute: what a difference that does not matter may be worth."""
FAR = 1000
"""Times the compute: so far no line through a few budgets reaches."""


@dataclass(frozen=True)
class Ladder:
    """Slope of the baseline's loss over ln(budget), its standard error and degrees of freedom, and the mean losses."""

    slope: float
    error: float
    df: int
    means: dict[float, float]


def ladder(budgets: list[Run], base: list[Run]) -> Ladder | None:
    """One slope, and a line's height for each seed; what is left, curvature too, is the error. None where nothing is
    left to tell it."""
    seeds: dict[int, dict[float, float]] = {}
    for run in sorted([*base, *budgets], key=lambda run: (run.seed, run.budget)):
        if run.status == "finished" and math.isfinite(run.values.get("val/loss", math.nan)):
            seeds.setdefault(run.seed, {})[run.budget] = run.values["val/loss"]
    lines = {seed: one for seed, one in seeds.items() if len(one) > 1}
    x, y = (np.concatenate([_centred(one, log) for one in lines.values()] or [np.zeros(0)]) for log in (True, False))
    df = len(x) - len(lines) - 1
    if df < 1:
        return None
    slope = float(x @ y / (x @ x))
    left = y - slope * x
    means = {
        budget: plain.fmean(one[budget] for one in seeds.values() if budget in one)
        for budget in sorted({b for one in seeds.values() for b in one})
    }
    return Ladder(slope, math.sqrt(float(left @ left / df / (x @ x))), df, means)


def _centred(line: Mapping[float, float], log: bool) -> np.ndarray:
    """ln(budgets) or losses of one seed, less their mean."""
    values = np.log(list(line)) if log else np.array(list(line.values()))
    return values - values.mean()


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
    worth, net, tilt = {}, {}, float(stats.t.ppf(0.975, made.df)) * made.error
    for one in loss.contrasts:
        if one.verdict in ("unstable", "no verdict") or one.df <= 0:
            continue
        half = (one.high - one.low) / 2
        logs = one.difference / made.slope
        width = math.hypot(half / made.slope, one.difference * tilt / made.slope**2)
        if abs(logs) + width < math.log(FAR):
            worth[one.arm] = (math.exp(logs), math.exp(logs - width), math.exp(logs + width))
        if one.arm in ratios:
            ratio, low, high = ratios[one.arm]
            slower, shaky = math.log(ratio), (math.log(high) - math.log(low)) / 2
            left = one.difference - made.slope * slower
            width = math.hypot(half, slower * tilt, made.slope * shaky)
            net[one.arm] = (left, left - width, left + width)
    return Exchange(made.slope, made.error, made.means, worth, net)
