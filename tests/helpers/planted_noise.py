"""Planted losses with known noise, thousands of studies at once, and the moderated variance in closed form.

Arrays are (studies, arms, seeds); the first arm is the baseline. The closed form holds where no cell is missing, and a
test keeps it equal to what gptlab computes study by study.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats

from gptlab.stats.moderation import INTERVAL_SHARE, OUTLIER_SEEDS, choose_limits, choose_outlier_limit

NOISES = ("normal", "t3", "skewed", "one x6", "baseline x3", "spread 0.9")
Array = np.ndarray[Any, Any]
Variances = Callable[[Array], tuple[Array, Array, Array]]
"""Losses to the variance of each arm's difference from the baseline, its degrees of freedom, and those of intervals.

Each is (studies, arms - 1).
"""


def plant_losses(seed: int, studies: int, arms: int, seeds: int, noise: str = "normal", effect: float = 0.0) -> Array:
    """Return losses in SDs of a run: a seed's luck, the run's own noise; the last arm is better by `effect`."""
    random, shape = np.random.default_rng(seed), (studies, arms, seeds)
    if noise == "t3":
        own = random.standard_t(3, shape) / np.sqrt(3)
    elif noise == "skewed":  # log-normal, sigma 0.5: skewness 1.75
        own = (np.exp(0.5 * random.standard_normal(shape)) - np.exp(0.125)) / np.sqrt(np.exp(0.5) - np.exp(0.25))
    else:
        own = random.standard_normal(shape)
    if noise == "one x6":
        own[:, 1] *= 6
    if noise == "baseline x3":
        own[:, 0] *= 3
    if noise == "spread 0.9":
        own *= np.exp(0.9 * random.standard_normal((studies, arms, 1)))
    own[:, -1] -= effect
    return own + random.standard_normal((studies, 1, seeds))


def own_variances(losses: Array) -> tuple[Array, Array, Array]:
    """Return each arm's own variance."""
    own = (losses[:, 1:] - losses[:, :1]).var(2, ddof=1)
    df = np.full(own.shape, losses.shape[2] - 1.0)
    return own, df, df


def pooled_variances(losses: Array) -> tuple[Array, Array, Array]:
    """Return the pooled variance, for each arm."""
    (_, arms, seeds), squares = losses.shape, _residual_squares(losses)
    df = np.full((len(losses), arms - 1), (arms - 1) * (seeds - 1.0))
    return 2 * squares.sum(1, keepdims=True) / df, df, df


def moderated_variances(losses: Array) -> tuple[Array, Array, Array]:
    """Return the moderated variances, of arms far noisier than the others among all, of the others without these."""
    variances = _moderate(losses)
    if losses.shape[2] >= OUTLIER_SEEDS:
        _leave_out_outliers(losses, variances, np.arange(len(losses)), list(range(losses.shape[1])))
    return variances


def _leave_out_outliers(losses: Array, variances: tuple[Array, Array, Array], studies: Array, arms: list[int]) -> None:
    """Write into `variances` those of the arms that are left in `studies` without the noisiest, and so on."""
    limit = choose_outlier_limit(len(arms))
    if not limit or not len(studies):
        return
    p = _compare_noise(losses[studies][:, arms])[2]
    noisiest = p[:, 1:].argmin(1) + 1
    found = p[np.arange(len(studies)), noisiest] < limit
    for place in range(1, len(arms)):
        chosen, rest = studies[found & (noisiest == place)], arms[:place] + arms[place + 1 :]
        if not len(chosen):
            continue
        columns = np.array(rest[1:]) - 1
        for array, part in zip(variances, _moderate(losses[chosen][:, rest]), strict=True):
            array[np.ix_(chosen, columns)] = part
        _leave_out_outliers(losses, variances, chosen, rest)


def _compare_noise(losses: Array) -> tuple[Array, Array, Array]:
    """Return each arm's variance, that of the others, and the chance that makes it so much larger."""
    arms, df, squares = losses.shape[1], losses.shape[2] - 1.0, _residual_squares(losses)
    part = squares * arms / (arms - 1)  # by which the residual falls if an arm is left out
    others_df = (arms - 2) * df
    variance, others = part / df, (squares.sum(1, keepdims=True) - part) / others_df
    return variance, others, stats.f.sf(variance / others, df, others_df)


def _moderate(losses: Array) -> tuple[Array, Array, Array]:
    """Return the moderated variances of all arms together, by the formulas of `gptlab.stats.moderation`."""
    own = own_variances(losses)[0]
    comparisons, df = own.shape[1], losses.shape[2] - 1.0
    if comparisons == 1:
        return own_variances(losses)
    squares = _residual_squares(losses)
    others_df = (comparisons - 1) * df
    variance, others, p = _compare_noise(losses)
    limits = choose_limits(comparisons, losses.shape[2])
    noisy, trust = p[:, 0] <= limits.baseline, np.minimum(1, p[:, 0] / limits.baseline_df) ** limits.df_power
    of_baseline, of_arm = (1 + 1 / comparisons) * variance[:, 0], (1 - 1 / comparisons) * others[:, 0]
    pooled_df = comparisons * df
    satterthwaite = (of_baseline + of_arm) ** 2 / (of_baseline**2 / df + of_arm**2 / others_df)
    satterthwaite = np.minimum(satterthwaite, pooled_df)
    shared = np.where(noisy, of_baseline + of_arm, 2 * squares.sum(1) / pooled_df)[:, None]
    shared_df = (trust * pooled_df + (1 - trust) * satterthwaite)[:, None]
    interval_df = 1 / ((1 - INTERVAL_SHARE) / shared_df + INTERVAL_SHARE / satterthwaite[:, None])
    weight = np.minimum(1, p[:, 1:] / limits.arm) ** limits.arm_power
    prior_df = weight * np.maximum(shared_df - df, 0)
    prior = np.maximum(shared_df * shared - df * own, 0) / np.maximum(shared_df - df, 1e-9)
    moderated = (prior_df * prior + df * own) / (prior_df + df)
    moderated = np.where(weight == 1, shared, moderated)
    # a weight of 1 leaves the shared degrees of freedom
    return moderated, prior_df + df, weight * np.maximum(interval_df - df, 0) + df


def _residual_squares(losses: Array) -> Array:
    """Return the residual sum of squares of the two-way model, by arm."""
    residual = losses - losses.mean(1, keepdims=True)
    residual -= residual.mean(2, keepdims=True)
    return (residual**2).sum(2)


def holm_adjust(p: Array) -> Array:
    """Return Holm's adjusted p-values, (studies, comparisons)."""
    order = np.argsort(p, 1)
    steps = np.take_along_axis(p, order, 1) * (p.shape[1] - np.arange(p.shape[1]))
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, np.minimum(1, np.maximum.accumulate(steps, 1)), 1)
    return adjusted


def judge(losses: Array, variances: Variances, effect: float = 0.0) -> tuple[float, float, float]:
    """Return the share of studies that call an equal arm different, that see the last arm, and of right intervals."""
    variance, df, interval_df = variances(losses)
    difference = (losses[:, 1:] - losses[:, :1]).mean(2)
    error = np.sqrt(variance / losses.shape[2])
    half = stats.t.ppf(0.975, interval_df) * error
    rejected = (holm_adjust(2 * stats.t.sf(abs(difference) / error, df)) < 0.05) & (abs(difference) > half)
    truth = np.zeros(difference.shape[1])
    truth[-1] = -effect
    covered = abs(difference - truth) <= half
    equal = rejected[:, :-1] if effect else rejected
    return float(equal.any(1).mean()), float(rejected[:, -1].mean()), float(covered.mean())
