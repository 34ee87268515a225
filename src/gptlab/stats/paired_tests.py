"""Differences between arms over seeds: variances, t-intervals, Holm's correction, equivalence, power.

A block is a seed: y[arm, seed] = mean + arm + seed + noise. Three variances of a paired difference:

own        of this arm's own differences                         n - 1 degrees of freedom
pooled     twice the residual mean square of the two-way model   (arms - 1) (n - 1): three seeds see much more
moderated  the own one drawn towards the typical one as far as the arms agree (Smyth 2004, Stat. Appl. Genet. Mol.
           Biol. 3:3): (d0 s0^2 + d s^2) / (d0 + d), d0 and s0^2 fitted over the arms

No bootstrap over seeds: of three, it covers three times in four. Nothing here is random, and sums are over sorted
arms and seeds, so that the order in which runs were listed changes no bit.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from scipy import optimize, special, stats

Table = Mapping[str, Mapping[int, float]]
"""A number by arm and seed."""
Name = TypeVar("Name", str, tuple[str, str])
"""Of a comparison."""
POWER = 0.8
MOST = 1000
"""Seeds beyond which no study is planned."""


@dataclass(frozen=True)
class Spread:
    """Variance of a paired difference, and its degrees of freedom."""

    variance: float
    df: float


def differences(table: Table, arm: str, against: str) -> dict[int, float]:
    """Arm less another, by the seeds that both have."""
    both = sorted(set(table[arm]) & set(table[against]))
    return {seed: table[arm][seed] - table[against][seed] for seed in both}


def own(found: Mapping[int, float]) -> Spread | None:
    """Of an arm's own differences; none from fewer than two."""
    if len(found) < 2:
        return None
    return Spread(float(np.var([found[seed] for seed in sorted(found)], ddof=1)), len(found) - 1)


def pooled(table: Table) -> Spread | None:
    """Twice the residual mean square of the two-way model, fitted by least squares, so that cells may be missing."""
    cells = [(arm, seed, table[arm][seed]) for arm in sorted(table) for seed in sorted(table[arm])]
    arms, seeds = sorted({arm for arm, _, _ in cells}), sorted({seed for _, seed, _ in cells})
    if not cells:
        return None
    design = np.zeros((len(cells), len(arms) + len(seeds)))
    for row, (arm, seed, _) in enumerate(cells):
        design[row, arms.index(arm)] = design[row, len(arms) + seeds.index(seed)] = 1
    values = np.array([value for *_, value in cells])
    values = values - values.mean()
    fitted, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    df = len(cells) - int(rank)
    if df < 1:
        return None
    residual = values - design @ fitted
    floor = len(cells) * (np.finfo(float).eps * max(1.0, float(np.abs(values).max()))) ** 2
    square = float(residual @ residual)
    return Spread(2 * (square if square > floor else 0.0) / df, df)


def moderated(spreads: Mapping[Name, Spread]) -> dict[Name, Spread]:
    """Each own variance drawn towards the typical one."""
    arms = sorted(spreads)
    positive = [arm for arm in arms if spreads[arm].variance > 0]
    if len(positive) < 2:
        return dict(spreads)
    variance = np.array([spreads[arm].variance for arm in positive])
    df = np.array([spreads[arm].df for arm in positive])
    prior, typical = prior_of(variance, df)
    total = float(sum(spreads[arm].df for arm in arms))
    found: dict[Name, Spread] = {}
    for arm in arms:
        one = spreads[arm]
        if math.isinf(prior):
            found[arm] = Spread(typical, total)
        else:
            mixed = (prior * typical + one.df * one.variance) / (prior + one.df)
            found[arm] = Spread(mixed, min(prior + one.df, total))
    return found


def prior_of(variance: np.ndarray, df: np.ndarray) -> tuple[float, float]:
    """(d0, s0^2) by the moments of log variances (Smyth 2004, section 6.2); d0 is infinite where chance alone explains
    how far the variances are apart."""
    logs = np.log(variance) - special.digamma(df / 2) + np.log(df / 2)
    mean = float(logs.mean())
    excess = float(logs.var(ddof=1) - special.polygamma(1, df / 2).mean())
    if excess <= 0:
        return math.inf, math.exp(mean)
    half = _trigamma_inverse(excess)
    return 2 * half, math.exp(mean + float(special.digamma(half)) - math.log(half))


def _trigamma_inverse(value: float) -> float:
    """x with trigamma(x) = value."""
    return math.exp(_root(lambda x: float(special.polygamma(1, math.exp(x))) - value, -30, 30))


def _root(of: Callable[[float], float], low: float, high: float) -> float:
    found: Any = optimize.brentq(of, low, high, xtol=1e-9)
    return float(found)


def interval(mean: float, spread: Spread, n: int, level: float = 0.95) -> tuple[float, float]:
    """Student's interval of a mean of n differences."""
    half = float(stats.t.ppf(0.5 + level / 2, spread.df)) * math.sqrt(spread.variance / n)
    return mean - half, mean + half


def chance(mean: float, spread: Spread, n: int) -> float:
    """Two-sided p of a mean of n differences, were there none."""
    if spread.variance == 0:
        return float(mean == 0)
    return float(2 * stats.t.sf(abs(mean) / math.sqrt(spread.variance / n), spread.df))


def holm(chances: Mapping[Name, float]) -> dict[Name, float]:
    """Holm's (1979) adjusted chances: monotone, and never below the plain ones."""
    found: dict[Name, float] = {}
    highest = 0.0
    for rank, name in enumerate(sorted(chances, key=lambda name: (chances[name], name))):
        highest = max(highest, min(1.0, (len(chances) - rank) * chances[name]))
        found[name] = highest
    return found


def power(effect: float, spread: Spread, n: float, alpha: float) -> float:
    """The chance to see a true effect, by the noncentral t."""
    if spread.variance == 0:
        return float(effect != 0)
    edge = float(stats.t.ppf(1 - alpha / 2, spread.df))
    shift = abs(effect) / math.sqrt(spread.variance / n)
    seen = float(stats.nct.sf(edge, spread.df, shift)) if shift < 30 else 1.0
    return seen + float(stats.nct.cdf(-edge, spread.df, shift)) if shift < 5 else seen


def smallest(spread: Spread, n: int, alpha: float) -> float:
    """The effect that n seeds see with 80 % power."""
    if spread.variance == 0:
        return 0.0
    scale = math.sqrt(spread.variance / n)
    high = 1.0
    while power(high * scale, spread, n, alpha) < POWER:
        high *= 2
    return scale * _root(lambda x: power(x * scale, spread, n, alpha) - POWER, 0, high)


def seeds_needed(effect: float, spread: Spread, n: int, alpha: float) -> int | None:
    """How many seeds in all see an effect with 80 % power; degrees of freedom grow with them. None: too many."""
    if effect == 0:
        return None
    each = spread.df / (n - 1)

    def enough(many: int) -> bool:
        return power(effect, Spread(spread.variance, each * (many - 1)), many, alpha) >= POWER

    if not enough(MOST):
        return None
    low, high = 1, MOST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
