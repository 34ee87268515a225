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
    """Return (cost, mean loss) of an arm at each size where it has both, by rising cost."""
    points = []
    for stratum in strata:
        # an arm may be missing at a size
        mean = next((summary.mean for summary in stratum.comparisons[0].arms if summary.arm == arm), None)
        finished = (run for run in stratum.runs if run.arm == arm and run.role == "arm" and run.status == "finished")
        first = next(finished, None)  # what a model costs is the same at every seed
        if mean is None or first is None:
            continue
        if cost == "params":
            x = first.values.get("params", 0.0)
        else:
            x = first.values.get("flops_per_token", 0.0) * first.values.get("tokens", 0.0)
        if x:
            points.append((float(x), mean))
    return sorted(points)


def _fit_line(arm: str, cost: Literal["params", "flops"], points: list[tuple[float, float]]) -> Scaling | None:
    """Return the least-squares line of loss over ln(cost); None from fewer than three sizes, or without an error."""
    if len({x for x, _ in points}) < MIN_SIZES:
        return None
    sizes, losses = np.array(points).T
    line: Any = stats.linregress(np.log(sizes), losses)
    # two parameters: three sizes leave one degree of freedom, and a wide band
    half = float(stats.t.ppf(0.975, len(points) - 2)) * float(line.stderr)
    if not math.isfinite(half):
        return None
    slope = float(line.slope)
    return Scaling(arm=arm, against=cost, points=points, slope=slope, low=slope - half, high=slope + half)


def _describe_winners(strata: list[Stratum]) -> list[str]:
    """Return a note on whether one arm has the lowest mean loss at all sizes."""
    best = {}
    for stratum in strata:
        means = {}
        for summary in stratum.comparisons[0].arms:
            if summary.mean is not None and not summary.diverged:
                means[summary.arm] = summary.mean
        if means:
            best[stratum.size] = min(means, key=lambda arm: (means[arm], arm))
    if not best:
        return []
    winners = ", ".join(f"{arm} at {size}" for size, arm in best.items())
    change = "is the same arm at all sizes" if len(set(best.values())) == 1 else "changes with size"
    return [f"the lowest mean loss {change}: {winners}"]
