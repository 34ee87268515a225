"""Robust moderation of variances: arms share one variance, except where an arm or the baseline is seen to be noisier.

Three seeds say little of one arm's noise (2 degrees of freedom), so its variance is drawn towards the pooled one. As in
limma's robust empirical Bayes (Phipson et al. 2016, Ann. Appl. Stat. 10:946) the pull fades with the probability that
chance alone makes an arm so much noisier than the others; one far outside keeps its own, and from five seeds on says
nothing of the noise of the others. The noise of the baseline is in every comparison: its part is estimated from the
baseline alone, and the further it stands out, the fewer degrees of freedom count, down to Satterthwaite's. The limits
were chosen by simulation (docs/log.md, 2026-11-29 and 30): lower ones let errors through where noise is unequal, higher
ones cost power where it is equal.

Intervals count fewer degrees of freedom than p-values, always nearer to Satterthwaite's. Three seeds cannot tell a
noisy baseline from an equal one, so intervals that trust chance cover too little; p-values have Holm's correction on
top. A verdict needs both, which costs next to no power: what passes Holm's first step has a clear interval too.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from scipy import stats

from gptlab.stats import paired_tests
from gptlab.stats.paired_tests import Table, VarianceEstimate, fit_additive_model

Pair = tuple[str, str]
"""An arm, and the arm that it is compared with."""
Variance = Literal["pooled", "moderated", "own", "none"]

FEW = 4
"""Number of comparisons below which power that doubts of the baseline cost is better spent on a noisy arm."""

MANY = 5
"""Number of comparisons from which on there are enough arms to be strict with the baseline."""

OUTLIER_SEEDS = 5
"""Seeds from which on an arm may say nothing of the noise of the others: three cannot tell it from one of many."""

INTERVAL_SHARE = 2 / 3
"""How far an interval's degrees of freedom go from those of a p-value to Satterthwaite's, in their reciprocals."""

DISAGREEMENT = 0.02
"""Probability below which an arm's noise is said to disagree with that of the others."""


def choose_outlier_limit(arms: int) -> float:
    """Return the probability below which an arm, so much noisier than the others, says nothing of their noise.

    Among three arms none does. Where all arms differ, the noisiest of many is far out by chance more often.
    """
    if arms < 4:
        return 0.0
    return 1e-3 if arms == 4 else 1e-5


@dataclass(frozen=True)
class Limits:
    """Probabilities below which chance is doubted, that an arm is so much noisier than the others.

    arm          from here on an arm's variance counts for itself, the more the smaller the probability
    arm_power    of the probability over this limit, with which the prior's weight fades: 1 is limma's
    baseline     from here on the baseline's part of the variance is estimated from the baseline alone; 1: always
    baseline_df  and from here on with degrees of freedom that fall to its own
    df_power     how fast they fall; inf: at once
    """

    arm: float
    arm_power: float
    baseline: float
    baseline_df: float
    df_power: float


def choose_limits(comparisons: int, seeds: float) -> Limits:
    """Return the limits for so many comparisons; a doubt about a baseline costs most where arms are few."""
    if comparisons < FEW:
        return Limits(arm=0.18, arm_power=2 / 3, baseline=1, baseline_df=0.06, df_power=3)
    if comparisons < MANY:
        return Limits(arm=0.15, arm_power=2 / 3, baseline=1, baseline_df=0.1, df_power=3)
    return Limits(arm=0.1, arm_power=1, baseline=0.5, baseline_df=0.5 / seeds, df_power=math.inf)


@dataclass(frozen=True)
class RowNoise:
    """Noise of one arm beside that of the others, from the residuals of the two-way model.

    variance, df  of this arm's losses; estimated from how it departs from the mean of the others
    others        variance of the others, and its degrees of freedom
    p             probability that chance alone makes this arm so much noisier
    """

    variance: float
    df: float
    others: float
    others_df: float
    p: float


def compare_noise(table: Table) -> dict[str, RowNoise]:
    """Return the noise of each arm beside that of the others; empty with fewer than three arms or two seeds."""
    square, df = fit_additive_model(table)
    noise = {}
    for arm in sorted(table) if len(table) > 2 else ():
        # the same model without this arm: what its rows add to the residual is its own noise
        rest, rest_df = fit_additive_model({other: table[other] for other in table if other != arm})
        own_df = df - rest_df
        if own_df < 1 or rest_df < 1:
            continue
        # a difference of two sums may come out a hair below 0
        own, others = max(0.0, square - rest) / own_df, rest / rest_df
        p = float(stats.f.sf(own / others, own_df, rest_df)) if others else float(not own)
        noise[arm] = RowNoise(variance=own, df=own_df, others=others, others_df=rest_df, p=p)
    return noise


def describe_disagreements(table: Table, baseline: str) -> list[str]:
    """Return a line for each arm whose runs scatter so much more than the others' that its variance is its own."""
    lines = []
    for arm, noise in compare_noise(table).items():
        if noise.p >= DISAGREEMENT:
            continue
        sizes = f"SD {math.sqrt(noise.variance):.2g}, the others' {math.sqrt(noise.others):.2g}"
        if arm == baseline:
            lines.append(f"the baseline {arm} is noisier than the arms ({sizes}): every interval is wider for it")
        else:
            lines.append(f"{arm} is noisier than the others ({sizes}): it is judged mostly by its own variance")
    return lines


def moderate_variance(
    own: VarianceEstimate, arm: RowNoise | None, baseline: RowNoise | None, comparisons: int
) -> VarianceEstimate:
    """Return the variance of an arm's differences from the baseline, drawn towards what all arms share."""
    if arm is None or baseline is None:
        return own
    limits = choose_limits(comparisons, own.df + 1)
    shared = _share_variance(baseline, comparisons, limits)
    # 1 where the arm is as noisy as the others, near 0 where chance does not explain it
    weight = min(1.0, arm.p / limits.arm) ** limits.arm_power
    if weight == 1:
        return shared
    # the shared estimate holds this arm's own part; taken out, what is left is the prior
    prior_df = max(0.0, shared.df - own.df)
    if not prior_df:
        return own
    prior = max(0.0, shared.df * shared.variance - own.df * own.variance) / prior_df
    df = weight * prior_df + own.df
    interval_prior_df = max(0.0, (shared.interval_df or shared.df) - own.df)
    # limma's posterior: degrees of freedom are weights, and the prior's fade with the doubt
    return VarianceEstimate(
        variance=(weight * prior_df * prior + own.df * own.variance) / df,
        df=df,
        interval_df=weight * interval_prior_df + own.df,
    )


def _share_variance(baseline: RowNoise, comparisons: int, limits: Limits) -> VarianceEstimate:
    """Return the variance of a difference that is not an outlier: pooled, or with the baseline's own part."""
    df = baseline.df + baseline.others_df
    pooled = 2 * (baseline.df * baseline.variance + baseline.others_df * baseline.others) / df
    # losses that are equal to the bit have no noise to share out
    if not pooled:
        return VarianceEstimate(pooled, df)
    # an arm less the baseline is (an arm less the mean of the arms) and (that mean less the baseline)
    of_arm = (1 - 1 / comparisons) * baseline.others
    of_baseline = (1 + 1 / comparisons) * baseline.variance
    variance = of_baseline + of_arm
    # degrees of freedom of a sum of two variances (Satterthwaite 1946, Biometrics Bull. 2:110)
    satterthwaite = min(df, variance**2 / (of_baseline**2 / baseline.df + of_arm**2 / baseline.others_df))
    # two degrees of freedom are right of a noisy baseline, and would take all power from an equal one: between them
    trust = min(1.0, baseline.p / limits.baseline_df) ** limits.df_power
    test_df = trust * df + (1 - trust) * satterthwaite
    interval_df = 1 / ((1 - INTERVAL_SHARE) / test_df + INTERVAL_SHARE / satterthwaite)
    return VarianceEstimate(pooled if baseline.p > limits.baseline else variance, test_df, interval_df)


def moderate_variances(own: Mapping[Pair, VarianceEstimate], table: Table) -> dict[Pair, VarianceEstimate]:
    """Return the moderated variance of each pair (arm, baseline).

    An arm that is far noisier than the others is judged among all, and the others as if it were not there.

    table  all arms whose runs say something of the noise, the baselines too
    """
    noise = compare_noise(table)
    moderated: dict[Pair, VarianceEstimate] = {}
    for (arm, against), estimate in own.items():
        moderated[arm, against] = moderate_variance(estimate, noise.get(arm), noise.get(against), len(table) - 1)
    outlier = find_outlier(noise, {against for _, against in own})
    if outlier is None:
        return moderated
    # once more without it: there may be a second one behind the first
    rest = {arm: by_seed for arm, by_seed in table.items() if arm != outlier}
    return moderated | moderate_variances({pair: own[pair] for pair in own if outlier not in pair}, rest)


def find_outlier(noise: Mapping[str, RowNoise], baselines: Collection[str]) -> str | None:
    """Return the arm, no baseline, that is so much noisier than the others that it says nothing of their noise."""
    limit = choose_outlier_limit(len(noise))
    p: dict[str, float] = {}
    for arm, row in noise.items():
        if arm not in baselines and row.df >= OUTLIER_SEEDS - 1 and row.p < limit:
            p[arm] = row.p
    return min(p, key=lambda arm: (p[arm], arm)) if p else None


def choose_variances(
    values: Table, pairs: list[Pair], kind: Variance, unstable: frozenset[str]
) -> dict[Pair, VarianceEstimate]:
    """Return the variance estimate that each comparison uses.

    Arms that diverged in some seed keep their own, since what is left of them says nothing of the others. So do arms
    that never differ, being the same thing under two names.
    """
    own: dict[Pair, VarianceEstimate] = {}
    for pair in pairs:
        estimate = paired_tests.own_variance(paired_tests.paired_differences(values, *pair))
        if estimate is not None:  # two seeds or more
            own[pair] = estimate
    shared = select_shared(values, pairs, unstable)
    stable = {pair: estimate for pair, estimate in own.items() if {*pair} <= shared.keys()}
    if kind == "moderated":
        return {**own, **moderate_variances(stable, shared)}
    if kind == "pooled":
        pooled = paired_tests.pooled_variance(shared)
        return own if pooled is None else {**own, **dict.fromkeys(stable, pooled)}
    return own


def select_shared(values: Table, pairs: list[Pair], unstable: frozenset[str]) -> dict[str, Mapping[int, float]]:
    """Return the values of the arms that say something of each other's noise."""
    silent = {*unstable}
    for arm, against in pairs:
        differences = paired_tests.paired_differences(values, arm, against)
        if len(differences) > 1 and not any(differences.values()):
            silent.add(arm)  # the same thing under two names
    return {arm: by_seed for arm, by_seed in values.items() if arm not in silent}
