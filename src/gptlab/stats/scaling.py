"""Scaling over three or more sizes: each arm's loss over ln(parameters) and ln(training FLOPs)."""

import math
from typing import Any, Literal

import numpy as np
from scipy import stats

from gptlab.stats.results import Scaling, Stratum

MIN_SIZES = 3
"""Number of sizes that a line needs."""


def fit_scaling(strata: list[Stratum]) -> tuple[list[Scaling], list[str]]:
    """Return a line for each arm and cost, and notes."""
    sized = [stratum for stratum in strata if stratum.size]
    notes = _describe_winners(sized) if len(sized) > 1 else []
    if len(sized) < MIN_SIZES or any(stratum.comparisons[0].metric.unit != "nats/token" for stratum in sized):
        return [], notes
    arms = sorted({run.arm for stratum in sized for run in stratum.runs if run.role == "arm"})
    costs: tuple[Literal["params", "flops"], ...] = ("params", "flops")
    lines = [_fit_line(arm, cost, _collect_points(arm, cost, sized)) for arm in arms for cost in costs]
    return [line for line in lines if line is not None], notes


def _collect_points(arm: str, cost: str, strata: list[Stratum]) -> list[tuple[float, float]]:
    points = []
    for stratum in strata:
        # an arm may be missing at a size
        (mean,) = [arm_summary.mean for arm_summary in stratum.comparisons[0].arms if arm_summary.arm == arm] or [None]
        values = next(
            (r.values for r in stratum.runs if r.arm == arm and r.role == "arm" and r.status == "finished"), {}
        )
        x = values.get("params") if cost == "params" else values.get("flops_per_token", 0.0) * values.get("tokens", 0.0)
        if mean is not None and x:
            points.append((float(x), mean))
    return sorted(points)


def _fit_line(arm: str, cost: Literal["params", "flops"], points: list[tuple[float, float]]) -> Scaling | None:
    if len({x for x, _ in points}) < MIN_SIZES:
        return None
    x, y = np.log([size for size, _ in points]), np.array([loss for _, loss in points])
    line: Any = stats.linregress(x, y)
    # two parameters: three sizes leave one degree of freedom, and a wide band
    half = float(stats.t.ppf(0.975, len(points) - 2)) * float(line.stderr)
    slope = float(line.slope)
    return Scaling(arm, cost, points, slope, slope - half, slope + half) if math.isfinite(half) else None


def _describe_winners(strata: list[Stratum]) -> list[str]:
    best = {}
    for stratum in strata:
        means = {
            summary.arm: summary.mean
            for summary in stratum.comparisons[0].arms
            if summary.mean is not None and not summary.diverged
        }
        if means:
            best[stratum.size] = min(means, key=lambda arm: (means[arm], arm))
    winners = ", ".join(f"{arm} at {size}" for size, arm in best.items())
    same = len(set(best.values())) == 1
    return (
        [f"the lowest mean loss {'is the same arm at all sizes' if same else 'changes with size'}: {winners}"]
        if best
        else []
    )
