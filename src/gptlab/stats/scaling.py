"""Three sizes or more: each arm's loss over ln(parameters) and ln(training FLOPs), and whether the winner stays one."""

import math
from typing import Any, Literal

import numpy as np
from scipy import stats

from gptlab.stats.results import Scaling, Stratum

LEAST = 3
"""Sizes."""


def fits(strata: list[Stratum]) -> tuple[list[Scaling], list[str]]:
    """A line each arm and cost, and notes."""
    sized = [stratum for stratum in strata if stratum.size]
    notes = _winners(sized) if len(sized) > 1 else []
    if len(sized) < LEAST:
        return [], notes
    arms = sorted({run.arm for stratum in sized for run in stratum.runs if run.role == "arm"})
    costs: tuple[Literal["params", "flops"], ...] = ("params", "flops")
    found = [_fit(arm, cost, _points(arm, cost, sized)) for arm in arms for cost in costs]
    return [one for one in found if one is not None], notes


def _points(arm: str, cost: str, strata: list[Stratum]) -> list[tuple[float, float]]:
    points = []
    for stratum in strata:
        (mean,) = [one.mean for one in stratum.comparisons[0].arms if one.arm == arm] or [None]
        values = next(
            (r.values for r in stratum.runs if r.arm == arm and r.role == "arm" and r.status == "finished"), {}
        )
        x = values.get("params") if cost == "params" else values.get("flops_per_token", 0.0) * values.get("tokens", 0.0)
        if mean is not None and x:
            points.append((float(x), mean))
    return sorted(points)


def _fit(arm: str, cost: Literal["params", "flops"], points: list[tuple[float, float]]) -> Scaling | None:
    if len({x for x, _ in points}) < LEAST:
        return None
    x, y = np.log([one for one, _ in points]), np.array([one for _, one in points])
    line: Any = stats.linregress(x, y)
    half = float(stats.t.ppf(0.975, len(points) - 2)) * float(line.stderr)
    slope = float(line.slope)
    return Scaling(arm, cost, points, slope, slope - half, slope + half) if math.isfinite(half) else None


def _winners(strata: list[Stratum]) -> list[str]:
    best = {}
    for stratum in strata:
        means = {one.arm: one.mean for one in stratum.comparisons[0].arms if one.mean is not None and not one.diverged}
        if means:
            best[stratum.size] = min(means, key=lambda arm: (means[arm], arm))
    told = ", ".join(f"{arm} at {size}" for size, arm in best.items())
    same = len(set(best.values())) == 1
    return (
        [f"the lowest mean loss {'is the same arm at all sizes' if same else 'changes with size'}: {told}"]
        if best
        else []
    )
