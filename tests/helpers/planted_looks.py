"""Thousands of planted studies judged look by look, following what each look advises to the letter."""

from typing import NamedTuple

import numpy as np
import planted_noise as planted
from planted_noise import Array
from scipy import stats

from gptlab.stats.contrasts import FUTILITY, LaterLevels, chance_to_resolve
from gptlab.stats.spending import LookPlan


class Judged(NamedTuple):
    """By study and comparison: what was concluded when it stopped, and with how many seeds."""

    different: Array
    equivalent: Array
    covered: Array
    seeds: Array


def judge_by_looks(losses: Array, plan: LookPlan, delta: float = 0.0, truth: float = 0.0) -> Judged:
    """Judge (studies, arms, seeds) losses: an arm stops when it is different, equivalent, or beyond the plan.

    truth  difference of the last arm; that of the others is 0
    """
    studies, arms, _ = losses.shape
    shape = (studies, arms - 1)
    still_open, different, equivalent = np.ones(shape, bool), np.zeros(shape, bool), np.zeros(shape, bool)
    covered, seeds = np.zeros(shape, bool), np.zeros(shape, int)
    right = np.zeros(arms - 1)
    right[-1] = truth
    for n in plan.looks:
        now = LookPlan(plan.looks, plan.spending, tuple(look for look in plan.looks if look < n))
        variance, df, interval_df = planted.moderated_variances(losses[:, :, :n])
        difference, error = (losses[:, 1:, :n] - losses[:, :1, :n]).mean(2), np.sqrt(variance / n)
        p = 2 * stats.t.sf(abs(difference) / error, df)
        family = (arms - 1) - different.sum(1, keepdims=True)
        adjusted = _adjust_open(p, still_open, different, family)
        half = stats.t.isf(now.find_level(n) / 2, interval_df) * error
        certain = (adjusted < _levels(now, n, arms)[family]) & (abs(difference) > half)
        within = abs(difference) + stats.t.isf(now.find_equivalence_level(n), interval_df) * error <= delta
        ends = still_open & (within | certain)
        covers = abs(difference - right) <= half
        equivalent |= still_open & within
        different |= still_open & certain & ~within
        if n == plan.last:
            ends = still_open
        else:
            ahead = now.look_ahead(n, plan.last)
            chance = chance_to_resolve(
                difference,
                variance,
                df,
                n=n,
                later=plan.last,
                levels=LaterLevels(
                    different=_levels(ahead, plan.last, arms)[family] * p / np.maximum(adjusted, p),
                    interval=ahead.find_level(plan.last),
                    equivalent=ahead.find_equivalence_level(plan.last),
                ),
                interval_df=interval_df,
                delta=delta,
            )
            ends |= still_open & (chance < FUTILITY)
        covered[ends], seeds[ends] = covers[ends], n
        still_open &= ~ends
    return Judged(different, equivalent, covered, seeds)


def _levels(plan: LookPlan, seeds: int, arms: int) -> Array:
    """Return the level of a look by the size of the family; a family of none needs none."""
    return np.array([0.0, *(plan.find_level(seeds, size) for size in range(1, arms))])


def _adjust_open(p: Array, still_open: Array, different: Array, family: Array) -> Array:
    """Return Holm's p of the open comparisons, in the family of all that are not known to be different."""
    ranked = np.where(different, -1.0, np.where(still_open, p, 1.0))
    order = np.argsort(ranked, 1)
    rank = np.arange(p.shape[1]) - different.sum(1, keepdims=True)
    steps = np.maximum(0, np.take_along_axis(ranked, order, 1)) * np.maximum(family - rank, 1)
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, np.minimum(1, np.maximum.accumulate(steps, 1)), 1)
    return adjusted
