"""Loss against a cost: an arm is dominated only by one that is better beyond the interval on one side and not worse on
the other."""

from gptlab.stats.results import Comparison, Front, Timing

Span = tuple[float, float, float]
"""A difference from the baseline, and its interval."""


def front(loss: Comparison, cost: Comparison | Timing) -> Front | None:
    """The front of all arms in both; none where a cost is the same for all."""
    losses = _spans(loss)
    costs = _spans(cost) if isinstance(cost, Comparison) else {**cost.ratios, _base(cost): (1.0, 1.0, 1.0)}
    arms = sorted(set(losses) & set(costs))
    if len(arms) < 2 or len({costs[arm][0] for arm in arms}) < 2:
        return None
    dominated = {}
    for arm in arms:
        by = [
            other for other in arms if other != arm and _dominates(losses[other], losses[arm], costs[other], costs[arm])
        ]
        if by:
            dominated[arm] = min(by, key=lambda other: (losses[other][0], other))
    return Front(cost.metric, [arm for arm in arms if arm not in dominated], dominated)


def _base(cost: Timing) -> str:
    (name,) = set(cost.medians) - set(cost.ratios)
    return name


def _spans(one: Comparison) -> dict[str, Span]:
    """Differences from the baseline, with their intervals, lower being better; none of arms that have no interval."""
    sign = 1 if one.metric.better == "lower" else -1
    found = {one.baseline: (0.0, 0.0, 0.0)}
    for contrast in one.contrasts:
        if contrast.verdict not in ("unstable", "no verdict"):
            low, high = sorted((sign * contrast.low, sign * contrast.high))
            found[contrast.arm] = (sign * contrast.difference, low, high)
    return found


def _dominates(loss: Span, loss_of: Span, cost: Span, cost_of: Span) -> bool:
    """Clearly better on one side, and at least as good on the other."""
    clearly = (_clear(loss, loss_of), _clear(cost, cost_of))
    return any(clearly) and loss[0] <= loss_of[0] and cost[0] <= cost_of[0]


def _clear(here: Span, there: Span) -> bool:
    """Intervals that do not meet."""
    return here[2] < there[1]
