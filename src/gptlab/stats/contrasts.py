"""Arms compared by the seeds that both finished, each with its verdict.

Better or worse needs Holm's p below alpha over all comparisons with the baseline. Equivalent needs the 90 % interval
inside +-delta (TOST at 5 %), and goes before better and worse: a difference that is certain, and certainly smaller than
what matters, is no reason to change. An arm that diverged in some seed is unstable, whatever the others say; one that
did not is judged by the seeds that a diverging baseline finished, with its own variance, and a note says so.
"""

import math
import statistics as plain
from collections.abc import Mapping
from dataclasses import dataclass

from gptlab.stats import paired_tests as statistics
from gptlab.stats.paired_tests import Spread, Table
from gptlab.stats.results import Contrast, Metric, Verdict


@dataclass(frozen=True)
class Rule:
    """What decides. `unstable`: arms that diverged in some seed, the baseline aside; `minutes`: of one more seed for
    all arms."""

    metric: Metric
    delta: float
    alpha: float
    unstable: frozenset[str]
    minutes: float = 0.0

    def verdict(self, difference: float, inside: tuple[float, float], p: float, shaky: bool) -> Verdict:
        """`inside`: the 90 % interval; `p`: Holm's."""
        if shaky:
            return "unstable"
        if -self.delta <= inside[0] and inside[1] <= self.delta:
            return "equivalent"
        if p >= self.alpha:
            return "not resolved"
        return "better" if (difference < 0) == (self.metric.better == "lower") else "worse"


Pair = tuple[str, str]
"""An arm, and with whom it is compared."""


def contrasts(rule: Rule, values: Table, spreads: Mapping[Pair, Spread], pairs: list[Pair]) -> list[Contrast]:
    """The contrasts of some pairs, corrected for their number."""
    found = {pair: statistics.differences(values, *pair) for pair in pairs}
    means = {pair: plain.fmean(one.values()) for pair, one in found.items() if one}
    p = {pair: statistics.chance(means[pair], spreads[pair], len(found[pair])) for pair in pairs if pair in spreads}
    adjusted = statistics.holm(p)
    made = []
    for pair in sorted(means):
        seeds = tuple(found[pair])
        here, there = (plain.fmean(values[arm][seed] for seed in seeds) for arm in pair)
        shaky = bool({*pair} & rule.unstable)
        own = statistics.own(found[pair])
        if own is None:
            made.append(bare(*pair, seeds, here, there, "unstable" if shaky else "no verdict"))
            continue
        spread, difference, n = spreads[pair], means[pair], len(seeds)
        (low, high), inside = (statistics.interval(difference, spread, n, level) for level in (0.95, 0.9))
        verdict = rule.verdict(difference, inside, adjusted[pair], shaky)
        more = _more(rule, difference, spread, n, len(pairs)) if verdict == "not resolved" else None
        made.append(
            Contrast(
                *pair,
                seeds,
                *(here, there, difference),
                *(low, high, *inside),
                *(math.sqrt(spread.variance), spread.df, math.sqrt(own.variance)),
                *(p[pair], statistics.chance(difference, own, n), adjusted[pair]),
                verdict,
                more,
                more * rule.minutes if more and rule.minutes else None,
            )
        )
    return made


def _more(rule: Rule, difference: float, spread: Spread, n: int, comparisons: int) -> int | None:
    """About so many more seeds would show this difference or, if it is smaller than what matters, one that matters."""
    needed = statistics.seeds_needed(max(abs(difference), rule.delta), spread, n, rule.alpha / comparisons)
    return None if needed is None else max(1, needed - n)


def bare(arm: str, against: str, seeds: tuple[int, ...], here: float, there: float, verdict: Verdict) -> Contrast:
    """A difference without an interval."""
    d, none, sure = here - there, 0.0, 1.0
    return Contrast(arm, against, seeds, here, there, d, d, d, d, d, none, none, none, sure, sure, sure, verdict)


def counted(metric: Metric, values: Table, pair: Pair) -> Contrast:
    """A count, the same in all seeds: the numbers themselves decide."""
    here, there = (plain.fmean(values[arm][seed] for seed in sorted(values[arm])) for arm in pair)
    seeds = tuple(sorted(set(values[pair[0]]) & set(values[pair[1]])))
    verdict: Verdict = "better" if (here < there) == (metric.better == "lower") else "worse"
    return bare(*pair, seeds, here, there, "equivalent" if here == there else verdict)
