"""Contrasts between arms over the seeds that both finished, each with its verdict.

Better or worse needs Holm's p below alpha over all comparisons with the baseline, and an interval that leaves 0 out:
intervals count fewer degrees of freedom (`moderation`). Equivalent needs the 90 % interval inside +-delta (two
one-sided tests at 5 %, TOST: Schuirmann 1987, J. Pharmacokinet. Biopharm. 15:657), and goes before better and worse: a
difference that is certain, and certainly smaller than what matters, is no reason to change. A study with a plan of
looks has at each look the level that its spending leaves, and intervals as wide: they are right over all looks
together, whenever the study is stopped. An arm that diverged in some seed is unstable, whatever the others say; one
that did not is judged by the seeds that a diverging baseline finished, with its own variance, and a note says so.
"""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from gptlab.stats import paired_tests
from gptlab.stats.moderation import Pair
from gptlab.stats.paired_tests import Table, VarianceEstimate
from gptlab.stats.results import Contrast, Metric, Verdict
from gptlab.stats.spending import ALPHA, LookPlan

FUTILITY = 0.1
"""Chance of the last planned look to resolve a comparison, below which the plan is said to be unable to."""

QUANTILES = 12
"""Points at which a variance that is not known is averaged over."""


class LaterLevels(NamedTuple):
    """Levels of a later look: of the p of a comparison, of its interval (two-sided), and of equivalence (one-sided)."""

    different: Any
    interval: float
    equivalent: float


@dataclass(frozen=True)
class DecisionRule:
    """The rule by which a contrast becomes a verdict.

    metric    which direction is better
    delta     margin of equivalence, in the metric's unit
    alpha     family-wise error, over all looks; in a campaign, the share of it that this study has
    unstable  arms that diverged in some seed, the baseline aside
    minutes   run time of one more seed for all arms
    plan      the looks; None judges once, with all of alpha
    """

    metric: Metric
    delta: float
    alpha: float
    unstable: frozenset[str]
    minutes: float = 0.0
    plan: LookPlan | None = None

    def find_level(self, seeds: int, comparisons: int = 1) -> float:
        """Return the level that Holm's p-value over so many comparisons must be below."""
        return self.alpha if self.plan is None else self.plan.find_level(seeds, comparisons, alpha=self.alpha)

    def find_interval_level(self, seeds: int) -> float:
        """Return 1 less the confidence of an interval, which is of its own comparison: 95 % over all looks."""
        return ALPHA if self.plan is None else self.plan.find_level(seeds)

    def find_equivalence_level(self, seeds: int) -> float:
        """Return the level of each of the two one-sided tests of equivalence, which a campaign leaves as it is."""
        return ALPHA if self.plan is None else self.plan.find_equivalence_level(seeds)

    def decide(self, contrast: Contrast, unstable: bool) -> Verdict:
        """Return the verdict from a contrast's intervals, and its Holm's p at its level."""
        if unstable:
            return "unstable"
        # before the test of difference: certain and too small to matter is no reason to change
        if -self.delta <= contrast.low90 and contrast.high90 <= self.delta:
            return "equivalent"
        return choose_side(self.metric, contrast.difference) if is_different(contrast) else "not resolved"


def is_different(contrast: Contrast) -> bool:
    """Return whether a difference is resolved: by Holm's p, and by an interval that leaves 0 out."""
    return contrast.p_holm < contrast.level and not contrast.low <= 0 <= contrast.high


def choose_side(metric: Metric, difference: float) -> Verdict:
    """Return the verdict on a difference that is resolved."""
    return "better" if (difference < 0) == (metric.better == "lower") else "worse"


def redecide(metric: Metric, contrast: Contrast, p_holm: float) -> Contrast:
    """Return a contrast with another p; it is better or worse if that resolves it, and needs no more seeds then."""
    contrast = replace(contrast, p_holm=p_holm)
    if contrast.verdict != "not resolved" or not is_different(contrast):
        return contrast
    forecasts = ("more_seeds", "more_minutes", "next_look", "chance", "chance_at_last")
    return replace(contrast, verdict=choose_side(metric, contrast.difference), **dict.fromkeys(forecasts))


def compare_pairs(
    rule: DecisionRule,
    values: Table,
    variances: Mapping[Pair, VarianceEstimate],
    pairs: list[Pair],
    stopped: int = 0,
) -> list[Contrast]:
    """Return the contrasts of `pairs`, with p-values adjusted for their number.

    stopped  comparisons that an earlier look has ended without a difference: they count in Holm's correction
    """
    differences = {pair: paired_tests.paired_differences(values, *pair) for pair in pairs}
    # without a seed in common there is nothing to compare
    means = {pair: statistics.fmean(by_seed.values()) for pair, by_seed in differences.items() if by_seed}
    p: dict[Pair, float] = {}
    for pair in pairs:
        if pair in variances:
            p[pair] = paired_tests.p_value(means[pair], variances[pair], len(differences[pair]))
    # over all pairs at once, or each would be tested as if it were alone
    adjusted = paired_tests.holm_adjust(p, stopped)
    results = []
    for pair in sorted(means):
        seeds = tuple(differences[pair])
        means_of_both = (_average(values[pair[0]], seeds), _average(values[pair[1]], seeds))
        unstable = bool({*pair} & rule.unstable)
        contrast = contrast_without_interval(pair, seeds, means_of_both, "unstable" if unstable else "no verdict")
        # one seed: a difference, and neither interval nor verdict
        own = paired_tests.own_variance(differences[pair])
        if own is not None:
            contrast = replace(
                contrast,
                difference=means[pair],
                own_sd=math.sqrt(own.variance),
                p=p[pair],
                p_own=paired_tests.p_value(means[pair], own, len(seeds)),
                p_holm=adjusted[pair],
            )
            contrast = _judge(rule, contrast, variances[pair], len(p) + stopped)
        results.append(contrast)
    return results


def _average(by_seed: Mapping[int, float], seeds: tuple[int, ...]) -> float:
    return statistics.fmean(by_seed[seed] for seed in seeds)


def _judge(rule: DecisionRule, contrast: Contrast, variance: VarianceEstimate, comparisons: int) -> Contrast:
    """Return a contrast with its intervals and its verdict; `comparisons` are those of Holm's p."""
    difference, n = contrast.difference, len(contrast.seeds)
    # not corrected for the number of arms: the interval is of this arm, the verdict of all
    low, high = paired_tests.t_interval(difference, variance, n, 1 - rule.find_interval_level(n))
    # two one-sided tests at 5 % are one 90 % interval
    interval90 = paired_tests.t_interval(difference, variance, n, 1 - 2 * rule.find_equivalence_level(n))
    unstable = contrast.verdict == "unstable"
    contrast = replace(
        contrast,
        low=low,
        high=high,
        low90=interval90[0],
        high90=interval90[1],
        sd=math.sqrt(variance.variance),
        df=variance.df,
        interval_df=variance.df if variance.interval_df is None else variance.interval_df,
        level=rule.find_level(n, comparisons),
        exploratory=rule.plan is not None and n > rule.plan.last,
    )
    contrast = replace(contrast, verdict=rule.decide(contrast, unstable))
    return _look_ahead(rule, contrast, comparisons) if contrast.verdict == "not resolved" else contrast


def _look_ahead(rule: DecisionRule, contrast: Contrast, comparisons: int) -> Contrast:
    """Return a contrast that is not resolved with the seeds that would resolve it, and the chance of the last look."""
    variance, n = VarianceEstimate(contrast.sd**2, contrast.df), len(contrast.seeds)
    if rule.plan is None:
        more_seeds = _estimate_more_seeds(rule, contrast, variance, comparisons)
        return replace(contrast, more_seeds=more_seeds, more_minutes=_estimate_minutes(rule, more_seeds))
    next_look = rule.plan.find_next(n)
    if next_look is None or not variance.variance:
        return contrast
    # Holm's factor of this arm today: it is assumed to keep its place among the others
    holm = contrast.p_holm / contrast.p if contrast.p else 1.0
    chances = {}
    for look in (next_look, rule.plan.last):
        later = replace(rule, plan=rule.plan.look_ahead(n, look))
        chance = chance_to_resolve(
            contrast.difference,
            variance.variance,
            variance.df,
            n=n,
            later=look,
            levels=LaterLevels(
                different=later.find_level(look, comparisons) / max(1.0, holm),
                interval=later.find_interval_level(look),
                equivalent=later.find_equivalence_level(look),
            ),
            interval_df=contrast.interval_df,
            delta=rule.delta,
        )
        chances[look] = float(chance)
    # futile: not even the last look is likely to decide
    more_seeds = None if chances[rule.plan.last] < FUTILITY else next_look - n
    return replace(
        contrast,
        more_seeds=more_seeds,
        more_minutes=_estimate_minutes(rule, more_seeds),
        next_look=next_look,
        chance=chances[next_look],
        chance_at_last=chances[rule.plan.last],
    )


def _estimate_minutes(rule: DecisionRule, more_seeds: int | None) -> float | None:
    return more_seeds * rule.minutes if more_seeds and rule.minutes else None


def chance_to_resolve(
    difference: Any,
    variance: Any,
    df: Any,
    *,
    n: int,
    later: int,
    levels: LaterLevels,
    interval_df: Any,
    delta: float,
) -> Any:
    """Return the probability that a look at `later` seeds decides, given what n seeds show; arrays give arrays.

    Predictive power (Spiegelhalter, Freedman & Blackburn 1986, Control. Clin. Trials 7:8), of an unknown variance too.
    Any effect and any variance that go with these seeds may be the true ones (flat priors): the mean of the later look
    is normal about that of the seeds so far with variance sigma^2 (1/n - 1/later), and its estimate of sigma^2 holds
    the present one in the share of its degrees of freedom. Averaged over quantiles of sigma^2. To be different needs
    p below its level, and an interval, which counts `interval_df`, that leaves 0 out.
    """
    difference, variance, df, interval_df = (
        np.asarray(array, float)[..., None] for array in (difference, variance, df, interval_df)
    )
    level = np.asarray(levels.different, float)[..., None]
    # degrees of freedom grow with the seeds
    later_df, later_interval_df = (now * (later - 1) / (n - 1) for now in (df, interval_df))
    # the variance's posterior, at the midpoints of QUANTILES equal parts of probability; from here on (..., QUANTILES)
    true = df * variance / stats.chi2.ppf((np.arange(QUANTILES) + 0.5) / QUANTILES, df)
    # standard error that the later look will estimate, and how far its mean may move from today's
    error = np.sqrt((df * variance + (later_df - df) * true) / later_df / later)
    scale = np.sqrt(true * (1 / n - 1 / later))
    # least difference that is resolved then, and largest that is equivalent
    clear = stats.t.isf(levels.interval / 2, later_interval_df)
    different = np.maximum(stats.t.isf(level / 2, later_df), clear) * error
    equivalent = np.maximum(0.0, delta - stats.t.isf(levels.equivalent, later_interval_df) * error)
    # what lies inside the margin is called equivalent first, however small its p
    beyond = np.maximum(different, equivalent)
    chance = stats.norm.sf((beyond - difference) / scale) + stats.norm.cdf((-beyond - difference) / scale)
    within = stats.norm.cdf((equivalent - difference) / scale) - stats.norm.cdf((-equivalent - difference) / scale)
    return (chance + within).mean(-1)


def _estimate_more_seeds(
    rule: DecisionRule, contrast: Contrast, variance: VarianceEstimate, comparisons: int
) -> int | None:
    """Return about how many more seeds would show this difference, or the smallest that matters if that is larger."""
    effect, n = max(abs(contrast.difference), rule.delta), len(contrast.seeds)
    # the level of Holm's strictest step: enough whatever the other arms do
    needed = paired_tests.count_seeds_needed(effect, variance, n, rule.alpha / comparisons)
    return None if needed is None else max(1, needed - n)


def contrast_without_interval(
    pair: Pair, seeds: tuple[int, ...], means: tuple[float, float], verdict: Verdict
) -> Contrast:
    """Return a contrast that has a difference but no interval; `means` are those of both arms of the pair."""
    difference = means[0] - means[1]
    return Contrast(
        arm=pair[0],
        against=pair[1],
        seeds=seeds,
        mean=means[0],
        against_mean=means[1],
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
    arm, against = (values[name] for name in pair)
    mean, against_mean = statistics.fmean(arm.values()), statistics.fmean(against.values())
    # no test: a count is the same at every seed, so any difference is real
    verdict: Verdict = "equivalent" if mean == against_mean else choose_side(metric, mean - against_mean)
    return contrast_without_interval(pair, tuple(sorted({*arm} & {*against})), (mean, against_mean), verdict)
