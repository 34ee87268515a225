"""Loss difference as a compute multiplier of the baseline, and the same after correcting for step time.

The baseline is trained at several budgets, each with its own whole schedule: slope s = dL / d ln(compute) < 0. An arm
dL better is worth exp(dL / s) times the compute; net of speed its difference is dL - s ln(time / time of the baseline).
Intervals by the delta method (Oehlert 1992, Am. Stat. 46:27): the difference, the slope and the time each bring their
own half-width, and these add in quadrature.
"""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from gptlab.stats.results import STEP, Comparison, ComputeValue, Run, Timing

MARGIN_COMPUTE_SHARE = 0.02
"""Share of the training compute whose worth in loss is the margin of equivalence."""
MAX_FACTOR = 1000
"""Compute multiple up to which a line through a few budgets is extrapolated."""


@dataclass(frozen=True)
class BudgetFit:
    """Slope of the baseline's loss over ln(budget), with its standard error and degrees of freedom.

    Mean losses by budget.
    """

    slope: float
    error: float
    df: int
    means: dict[float, float]


def fit_budget_slope(budgets: list[Run], base: list[Run]) -> BudgetFit | None:
    """Fit one slope to all seeds, each seed with its own intercept.

    The residual, curvature included, is the error. Returns None where no degree of freedom is left to estimate it.
    """
    seeds: dict[int, dict[float, float]] = {}
    for run in sorted([*base, *budgets], key=lambda run: (run.seed, run.budget)):
        if run.status == "finished" and math.isfinite(run.values.get("val/loss", math.nan)):
            # by seed, since a seed's luck is the same at each budget and must not count as slope
            seeds.setdefault(run.seed, {})[run.budget] = run.values["val/loss"]
    # a seed at one budget has no slope
    lines = {seed: losses for seed, losses in seeds.items() if len(losses) > 1}
    x, y = np.zeros(0), np.zeros(0)
    for losses in lines.values():
        x = np.append(x, _center(np.log(list(losses))))
        y = np.append(y, _center(np.array(list(losses.values()))))
    # an intercept for each seed, and one slope
    df = len(x) - len(lines) - 1
    if df < 1:
        return None
    slope = float(x @ y / (x @ x))
    residual = y - slope * x
    losses_by_budget: dict[float, list[float]] = {}
    for losses in seeds.values():
        for budget, loss in losses.items():
            losses_by_budget.setdefault(budget, []).append(loss)
    means = {budget: statistics.fmean(losses_by_budget[budget]) for budget in sorted(losses_by_budget)}
    return BudgetFit(slope, math.sqrt(float(residual @ residual / df / (x @ x))), df, means)


def _center(values: np.ndarray) -> np.ndarray:
    """Return values less their mean: each seed has an intercept of its own."""
    return values - values.mean()


def choose_margin(delta: float | None, fit: BudgetFit | None) -> tuple[float, str] | None:
    """Return the difference in loss that does not matter, and its source; None leaves it to the loss itself."""
    if delta is not None:
        return delta, "asked for"
    if fit is None or fit.slope >= 0:
        return None
    return abs(fit.slope) * math.log(1 + MARGIN_COMPUTE_SHARE), "the loss worth 2 % of training compute"


def value_in_compute(fit: BudgetFit | None, loss: Comparison, timings: list[Timing]) -> ComputeValue | None:
    """Return the compute equivalent of each arm's difference; None where more training does not help the baseline."""
    if fit is None or fit.slope >= 0:
        return None
    ratios: Mapping[str, tuple[float, float, float]] = next(
        (timing.ratios for timing in timings if timing.metric == STEP), {}
    )
    equivalents, net = {}, {}
    # half-width of the slope's 95 % interval
    slope_half = float(stats.t.ppf(0.975, fit.df)) * fit.error
    for contrast in loss.contrasts:
        if contrast.verdict in ("unstable", "no verdict") or contrast.df <= 0:
            continue
        half = (contrast.high - contrast.low) / 2
        # dL = slope ln(compute), solved for compute
        log_factor = contrast.difference / fit.slope
        # delta method: both partial derivatives of dL / slope
        width = math.hypot(half / fit.slope, contrast.difference * slope_half / fit.slope**2)
        # beyond that the line would be believed far outside the budgets that it was fitted to
        if abs(log_factor) + width < math.log(MAX_FACTOR):
            equivalents[contrast.arm] = (
                math.exp(log_factor),
                math.exp(log_factor - width),
                math.exp(log_factor + width),
            )
        if contrast.arm in ratios:
            ratio, low, high = ratios[contrast.arm]
            log_ratio, log_ratio_half = math.log(ratio), (math.log(high) - math.log(low)) / 2
            # the same clock buys 1 / ratio of the steps, worth slope ln(ratio) of loss
            net_difference = contrast.difference - fit.slope * log_ratio
            width = math.hypot(half, log_ratio * slope_half, fit.slope * log_ratio_half)
            net[contrast.arm] = (net_difference, net_difference - width, net_difference + width)
    return ComputeValue(slope=fit.slope, slope_error=fit.error, budgets=fit.means, equivalents=equivalents, net=net)
