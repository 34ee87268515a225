"""Pareto fronts of loss against a cost.

An arm is dominated only by one that is better beyond the interval on one side and not worse on the other.
"""

from gptlab.stats.results import Comparison, Front, Timing

Span = tuple[float, float, float]
"""A difference from the baseline, and its interval."""


def find_front(loss: Comparison, cost: Comparison | Timing) -> Front | None:
    """Return the front of all arms in both; None where the cost is the same for all."""
    losses = _intervals(loss)
    # times are ratios to the baseline, whose own ratio is 1; all else are differences from it
    costs = _intervals(cost) if isinstance(cost, Comparison) else {**cost.ratios, _baseline_of(cost): (1.0, 1.0, 1.0)}
    arms = sorted(set(losses) & set(costs))
    if len(arms) < 2 or len({costs[arm][0] for arm in arms}) < 2:
        return None
    dominated = {}
    for arm in arms:
        dominating = [
            other for other in arms if other != arm and _dominates(losses[other], losses[arm], costs[other], costs[arm])
        ]
        if dominating:
            # of several the best, ties by name, so that a table is the same each time
            dominated[arm] = min(dominating, key=lambda other: (losses[other][0], other))
    return Front(cost.metric, [arm for arm in arms if arm not in dominated], dominated)


def _baseline_of(cost: Timing) -> str:
    # the only arm that was timed and has no ratio
    (name,) = set(cost.medians) - set(cost.ratios)
    return name


def _intervals(comparison: Comparison) -> dict[str, Span]:
    """Return differences from the baseline with their intervals, lower being better.

    Arms without an interval are left out.
    """
    # turned so that lower is better on both axes
    sign = 1 if comparison.metric.better == "lower" else -1
    spans = {comparison.baseline: (0.0, 0.0, 0.0)}
    for contrast in comparison.contrasts:
        if contrast.verdict not in ("unstable", "no verdict"):
            low, high = sorted((sign * contrast.low, sign * contrast.high))
            spans[contrast.arm] = (sign * contrast.difference, low, high)
    return spans


def _dominates(loss: Span, loss_of: Span, cost: Span, cost_of: Span) -> bool:
    """Whether one arm is clearly better on one side, and at least as good on the other."""
    clear = (_is_below(loss, loss_of), _is_below(cost, cost_of))
    return any(clear) and loss[0] <= loss_of[0] and cost[0] <= cost_of[0]


def _is_below(lower: Span, upper: Span) -> bool:
    """Whether an interval lies wholly below another."""
    return lower[2] < upper[1]
