"""Contrasts between arms over the seeds that both finished, each with its verdict.

Better or worse needs Holm's p below alpha over all comparisons with the baseline. Equivalent needs the 90 % interval
inside +-delta (TOST at 5 %), and goes before better and worse: a difference that is certain, and certainly smaller than
what matters, is no reason to change. An arm that diverged in some seed is unstable, whatever the others say; one that
did not is judged by the seeds that a diverging baseline finished, with its own variance, and a note says so.
"""

import math
import statistics as plain
from collections.abc import Mapping
from dataclasses import dataclass, replace

from gptlab.stats import paired_tests as statistics
from gptlab.stats.paired_tests import Table, VarianceEstimate
from gptlab.stats.results import Contrast, Metric, Verdict

ALPHA = 0.05
"""Family-wise error of the verdicts of one metric."""


@dataclass(frozen=True)
class DecisionRule:
    """The rule by which a contrast becomes a verdict.

    metric    which direction is better
    delta     margin of equivalence, in the metric's unit
    alpha     family-wise error
    unstable  arms that diverged in some seed, the baseline aside
    minutes   run time of one more seed for all arms
    """

    metric: Metric
    delta: float
    alpha: float
    unstable: frozenset[str]
    minutes: float = 0.0

    def decide(self, difference: float, interval90: tuple[float, float], p: float, unstable: bool) -> Verdict:
        """Return the verdict from the 90 % interval and Holm's `p`."""
        if unstable:
            return "unstable"
        if -self.delta <= interval90[0] and interval90[1] <= self.delta:
            return "equivalent"
        if p >= self.alpha:
            return "not resolved"
        return "better" if (difference < 0) == (self.metric.better == "lower") else "worse"


Pair = tuple[str, str]
"""An arm, and the arm that it is compared with."""


def compare_pairs(
    rule: DecisionRule, values: Table, variances: Mapping[Pair, VarianceEstimate], pairs: list[Pair]
) -> list[Contrast]:
    """Return the contrasts of `pairs`, with p-values adjusted for their number."""
    differences = {pair: statistics.paired_differences(values, *pair) for pair in pairs}
    means = {pair: plain.fmean(by_seed.values()) for pair, by_seed in differences.items() if by_seed}
    p = {
        pair: statistics.p_value(means[pair], variances[pair], len(differences[pair]))
        for pair in pairs
        if pair in variances
    }
    adjusted = statistics.holm_adjust(p)
    results = []
    for pair in sorted(means):
        seeds = tuple(differences[pair])
        mean, against_mean = (plain.fmean(values[arm][seed] for seed in seeds) for arm in pair)
        unstable = bool({*pair} & rule.unstable)
        contrast = contrast_without_interval(*pair, seeds, mean, against_mean, "unstable" if unstable else "no verdict")
        own = statistics.own_variance(differences[pair])
        if own is None:
            results.append(contrast)
            continue
        variance, difference, n = variances[pair], means[pair], len(seeds)
        (low, high), interval90 = (statistics.t_interval(difference, variance, n, level) for level in (0.95, 0.9))
        verdict = rule.decide(difference, interval90, adjusted[pair], unstable)
        more_seeds = _estimate_more_seeds(rule, difference, variance, n, len(pairs))
        more_seeds = more_seeds if verdict == "not resolved" else None
        results.append(
            replace(
                contrast,
                difference=difference,
                low=low,
                high=high,
                low90=interval90[0],
                high90=interval90[1],
                sd=math.sqrt(variance.variance),
                df=variance.df,
                own_sd=math.sqrt(own.variance),
                p=p[pair],
                p_own=statistics.p_value(difference, own, n),
                p_holm=adjusted[pair],
                verdict=verdict,
                more_seeds=more_seeds,
                more_minutes=more_seeds * rule.minutes if more_seeds and rule.minutes else None,
            )
        )
    return results


def _estimate_more_seeds(
    rule: DecisionRule, difference: float, variance: VarianceEstimate, n: int, comparisons: int
) -> int | None:
    """Return about how many more seeds would show this difference, or the smallest that matters if that is larger."""
    needed = statistics.count_seeds_needed(max(abs(difference), rule.delta), variance, n, rule.alpha / comparisons)
    return None if needed is None else max(1, needed - n)


def contrast_without_interval(
    arm: str, against: str, seeds: tuple[int, ...], mean: float, against_mean: float, verdict: Verdict
) -> Contrast:
    """Return a contrast that has a difference but no interval."""
    difference = mean - against_mean
    return Contrast(
        arm=arm,
        against=against,
        seeds=seeds,
        mean=mean,
        against_mean=against_mean,
        difference=difference,
        low=difference,
        high=difference,
        low90=difference,
        high90=difference,
        sd=0.0,
        df=0.0,
        own_sd=0.0,
        p=1.0,
        p_own=1.0,
        p_holm=1.0,
        verdict=verdict,
    )


def compare_counts(metric: Metric, values: Table, pair: Pair) -> Contrast:
    """Compare a count that is the same in all seeds: the numbers themselves decide."""
    mean, against_mean = (plain.fmean(values[arm][seed] for seed in sorted(values[arm])) for arm in pair)
    seeds = tuple(sorted(set(values[pair[0]]) & set(values[pair[1]])))
    verdict: Verdict = "better" if (mean < against_mean) == (metric.better == "lower") else "worse"
    return contrast_without_interval(
        *pair, seeds, mean, against_mean, "equivalent" if mean == against_mean else verdict
    )
