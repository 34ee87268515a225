"""Differences between arms over seeds: variances, t-intervals, Holm's correction, equivalence, power.

A block is a seed: y[arm, seed] = mean + arm + seed + noise, a randomized block design (Cochran & Cox 1957, Experimental
Designs, chapter 4). Three variances of a paired difference:

own        of this arm's own differences                         n - 1 degrees of freedom
pooled     twice the residual mean square of the two-way model   (arms - 1) (n - 1): three seeds see much more
moderated  the own one drawn towards the pooled one as far as the arms agree: see `moderation`

No bootstrap over seeds: of three, it covers three times in four. Nothing here is random, and sums are over sorted
arms and seeds, so that the order in which runs were listed changes no bit.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from scipy import optimize, stats

Table = Mapping[str, Mapping[int, float]]
"""Values by arm and seed."""
Name = TypeVar("Name", str, tuple[str, str])
"""The name of a comparison."""
POWER = 0.8
MAX_SEEDS = 1000
"""Number of seeds beyond which no study is planned."""


@dataclass(frozen=True)
class VarianceEstimate:
    """Variance of a paired difference, and its degrees of freedom.

    interval_df  that an interval counts, where they are fewer than the `df` of a p-value; None: the same
    """

    variance: float
    df: float
    interval_df: float | None = None


def paired_differences(table: Table, arm: str, against: str) -> dict[int, float]:
    """Return arm less `against`, by the seeds that both have."""
    both = sorted(set(table[arm]) & set(table[against]))
    return {seed: table[arm][seed] - table[against][seed] for seed in both}


def own_variance(differences: Mapping[int, float]) -> VarianceEstimate | None:
    """Return the variance of an arm's own differences; None from fewer than two."""
    if len(differences) < 2:
        return None
    return VarianceEstimate(
        float(np.var([differences[seed] for seed in sorted(differences)], ddof=1)), len(differences) - 1
    )


def pooled_variance(table: Table) -> VarianceEstimate | None:
    """Return twice the residual mean square of the two-way model."""
    square, df = fit_additive_model(table)
    return None if df < 1 else VarianceEstimate(2 * square / df, df)


def fit_additive_model(table: Table) -> tuple[float, int]:
    """Return the residual sum of squares of arm + seed, and its degrees of freedom.

    It is fitted by least squares, so that cells may be missing.
    """
    cells = [(arm, seed, table[arm][seed]) for arm in sorted(table) for seed in sorted(table[arm])]
    if not cells:
        return 0.0, 0
    arms = sorted({arm for arm, _, _ in cells})
    seeds = sorted({seed for _, seed, _ in cells})
    # one column for each arm, then one for each seed
    design = np.zeros((len(cells), len(arms) + len(seeds)))
    for row, (arm, seed, _) in enumerate(cells):
        design[row, arms.index(arm)] = design[row, len(arms) + seeds.index(seed)] = 1
    values = np.array([value for *_, value in cells])
    # losses near 2 with differences near 0.01: centred, so that no digits are lost in the products
    values = values - values.mean()
    fitted, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    residual = values - design @ fitted
    # below it the residual is rounding, as of arms that are the same thing under two names
    floor = len(cells) * (np.finfo(float).eps * max(1.0, float(np.abs(values).max()))) ** 2
    square = float(residual @ residual)
    # the rank, not the columns: with missing cells arms and seeds may not hang together
    return square if square > floor else 0.0, len(cells) - int(rank)


def t_interval(mean: float, variance: VarianceEstimate, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return Student's interval of a mean of n differences."""
    df = variance.df if variance.interval_df is None else variance.interval_df
    half = float(stats.t.ppf(0.5 + level / 2, df)) * math.sqrt(variance.variance / n)
    return mean - half, mean + half


def p_value(mean: float, variance: VarianceEstimate, n: int) -> float:
    """Return the two-sided p-value of a mean of n differences under no difference."""
    if variance.variance == 0:
        return float(mean == 0)
    return float(2 * stats.t.sf(abs(mean) / math.sqrt(variance.variance / n), variance.df))


def holm_adjust(p_values: Mapping[Name, float], others: int = 0) -> dict[Name, float]:
    """Return Holm's adjusted p-values (1979, Scand. J. Stat. 6:65): monotone, and never below the plain ones.

    others  further comparisons of the family, whose p-values are larger
    """
    adjusted: dict[Name, float] = {}
    highest = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: (p_values[name], name))):
        # the smallest times the number of comparisons, the next times one fewer, never below one before
        highest = max(highest, min(1.0, (len(p_values) + others - rank) * p_values[name]))
        adjusted[name] = highest
    return adjusted


def t_test_power(effect: float, variance: VarianceEstimate, n: float, alpha: float) -> float:
    """Return the probability of detecting a true effect, by the noncentral t."""
    if variance.variance == 0:
        return float(effect != 0)
    critical = float(stats.t.ppf(1 - alpha / 2, variance.df))
    # scipy's noncentral t loses its digits far out, where the power is 1 and the other tail 0 in any case
    shift = abs(effect) / math.sqrt(variance.variance / n)
    upper_tail = float(stats.nct.sf(critical, variance.df, shift)) if shift < 30 else 1.0
    return upper_tail + float(stats.nct.cdf(-critical, variance.df, shift)) if shift < 5 else upper_tail


def _find_root(function: Callable[[float], float], low: float, high: float) -> float:
    root: Any = optimize.brentq(function, low, high, xtol=1e-9)
    return float(root)


def minimum_detectable_effect(variance: VarianceEstimate, n: int, alpha: float) -> float:
    """Return the effect that n seeds detect with 80 % power."""
    if variance.variance == 0:
        return 0.0
    scale = math.sqrt(variance.variance / n)
    high = 1.0
    # double until it is enough, then find the root below
    while t_test_power(high * scale, variance, n, alpha) < POWER:
        high *= 2
    return scale * _find_root(lambda x: t_test_power(x * scale, variance, n, alpha) - POWER, 0, high)


def count_seeds_needed(effect: float, variance: VarianceEstimate, n: int, alpha: float) -> int | None:
    """Return how many seeds in all detect an effect with 80 % power; None if more than `MAX_SEEDS`.

    The degrees of freedom grow with the seeds.
    """
    if effect == 0:
        return None
    # a pooled variance gains the degrees of freedom of all arms with each seed
    df_per_seed = variance.df / (n - 1)

    def is_enough(many: int) -> bool:
        return t_test_power(effect, VarianceEstimate(variance.variance, df_per_seed * (many - 1)), many, alpha) >= POWER

    if not is_enough(MAX_SEEDS):
        return None
    # by bisection: power grows with the seeds
    low, high = 1, MAX_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high
