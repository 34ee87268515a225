"""Looks: the numbers of seeds at which a study is judged, and the share of alpha that each may use.

Judging at 5 % after 3, 5 and 8 seeds finds a difference where there is none in 12 % of studies. A spending function
says how much of alpha may be used by the time that a fraction t of the planned seeds is there (Lan & DeMets 1983,
Biometrika 70:659); the level of a look is what keeps the errors of all looks so far at that sum. It needs no equal
steps: a look between two planned ones spends at its own fraction. Levels are of normal statistics and are applied to
t-tests as p-values (the significance-level approach: Jennison & Turnbull 2000, section 3.8).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from scipy import optimize, special, stats

ALPHA = 0.05
"""Family-wise error of the verdicts of one metric, over all looks."""
Spending = Literal["pocock", "hwang_shih_decani", "obrien_fleming"]
DECAY = 1.6
"""How fast the shares of a campaign's questions fall: that of question i is i^-1.6 over zeta(1.6)."""
NODES = 96
"""Points of the Gauss-Legendre rule on the region where no look has decided."""


def spend_pocock(fraction: float, alpha: float) -> float:
    """Return the alpha spent by a fraction of the seeds, nearly the same at each look."""
    return alpha * math.log(1 + (math.e - 1) * fraction)


def spend_obrien_fleming(fraction: float, alpha: float) -> float:
    """Return the alpha spent by a fraction of the seeds, most of it at the end."""
    return float(4 * stats.norm.sf(stats.norm.isf(alpha / 4) / math.sqrt(fraction)))


def spend_hwang_shih_decani(fraction: float, alpha: float) -> float:
    """Return the alpha spent by a fraction of the seeds, between the other two (Hwang, Shih & DeCani 1990, gamma -4).

    The least cautious of their family whose power is within 0.03 of a single look's for every effect (docs/log.md).
    """
    return alpha * math.expm1(4 * fraction) / math.expm1(4)


SPENDING: dict[str, Callable[[float, float], float]] = {
    "pocock": spend_pocock,
    "hwang_shih_decani": spend_hwang_shih_decani,
    "obrien_fleming": spend_obrien_fleming,
}


def share_alpha(first: int, count: int) -> float:
    """Return the alpha of `count` questions of a campaign, from number `first` (1, 2, ...) on.

    Alpha-spending over an endless sequence of questions: the shares of all of them sum to alpha, so that the
    family-wise error holds whatever their tests have in common (Foster & Stine 2008, J. R. Stat. Soc. B 70:429). Alpha
    of a study that is rejected as a whole goes on to a later one, which keeps that promise (online fallback: Tian &
    Ramdas 2021, arXiv:1910.04900).
    """
    return float(ALPHA * sum(number**-DECAY for number in range(first, first + count)) / special.zeta(DECAY))


@lru_cache(maxsize=4096)
def compute_levels(looks: tuple[int, ...], last: int, spending: Spending, alpha: float) -> tuple[float, ...]:
    """Return the two-sided level of each look, at ascending numbers of seeds of which `last` spends all of alpha.

    By numerical integration over the paths that no earlier look has stopped (Armitage, McPherson & Rowe 1969). A path's
    clock counts degrees of freedom, n - 1: t-tests of few seeds are less alike than normal ones, and the clock of seeds
    lets 5.6 % of errors through where 5 were meant (one comparison, looks at 3, 5 and 8).
    """
    levels: list[float] = []
    points, weights = np.zeros(1), np.ones(1)  # the running sum at the last look, and its density times the step
    before, spent = 0.0, 0.0
    for seeds in looks:
        clock, to_spend = (seeds - 1) / (last - 1), SPENDING[spending](seeds / last, alpha)
        # the sum of standardized differences is a Brownian motion on this clock
        step = math.sqrt(clock - before)
        # this look may stop as many paths as the spending since the last one allows
        scale = math.sqrt(clock)  # SD of the sum at this look, from z to the sum's own unit
        bound = _find_bound(points, weights, share=to_spend - spent, step=step, scale=scale)
        levels.append(float(2 * stats.norm.sf(bound)))
        # the next density is on what no look has stopped, between the two bounds
        nodes, node_weights = _place_nodes(bound * scale)
        # (new nodes, old nodes) @ (old nodes,): the density after a normal step of this variance
        density = stats.norm.pdf((nodes[:, None] - points) / step) / step @ weights
        points, weights = nodes, density * node_weights
        before, spent = clock, to_spend
    return tuple(levels)


def _find_bound(points: np.ndarray, weights: np.ndarray, *, share: float, step: float, scale: float) -> float:
    """Return the z beyond which the paths still under way go with probability `share`.

    step   SD of what the sum gains between the last look and this one
    scale  SD of the sum at this look
    """

    def excess(bound: float) -> float:
        upper, lower = (stats.norm.sf((bound * scale + sign * points) / step) for sign in (-1, 1))
        return float((upper + lower) @ weights) - share

    root: Any = optimize.brentq(excess, 0.0, 12.0, xtol=1e-10)
    return float(root)


@lru_cache(maxsize=1)
def _legendre() -> tuple[np.ndarray, np.ndarray]:
    """Return the points and weights of the rule on [-1, 1]."""
    return np.polynomial.legendre.leggauss(NODES)


def _place_nodes(half: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the points and weights of the rule on [-half, half]."""
    points, weights = _legendre()
    return points * half, weights * half


@dataclass(frozen=True)
class Look:
    """One look at a study, as it is printed and written into comparison.json.

    seeds        the paired seeds that were judged
    number       planned looks reached: 2 of `planned`
    level        that Holm's p must be below
    spent        of `alpha`, this look included
    place        on a planned look, before the first, between two, or after the last, which makes it exploratory
    """

    seeds: int
    number: int
    planned: tuple[int, ...]
    spending: Spending
    level: float
    spent: float
    alpha: float
    place: Literal["planned", "before", "between", "after"]


@dataclass(frozen=True)
class LookPlan:
    """The looks of a study, and those that have been.

    looks   planned numbers of seeds, ascending
    looked  numbers of seeds at which the study has been judged, planned or not
    """

    looks: tuple[int, ...]
    spending: Spending = "pocock"
    looked: tuple[int, ...] = ()

    @property
    def last(self) -> int:
        """The number of seeds at which all of alpha is spent."""
        return self.looks[-1]

    def find_next(self, seeds: int) -> int | None:
        """Return the next planned look after so many seeds; None where there is none."""
        return next((look for look in self.looks if look > seeds), None)

    def find_level(self, seeds: int, comparisons: int = 1, *, alpha: float = ALPHA) -> float:
        """Return the level of a look at so many seeds, for Holm's p over so many comparisons.

        Each comparison spends alpha / comparisons, and Holm's p is that of one times their number.
        """
        # looks that have been, planned or not: unplanned ones have spent too
        this = min(seeds, self.last)
        times = sorted({look for look in self.looked if 1 < look < this} | {this})
        # Bonferroni's share, spent over the looks, given back in the scale of Holm's p
        return comparisons * compute_levels(tuple(times), self.last, self.spending, alpha / comparisons)[-1]

    def find_equivalence_level(self, seeds: int) -> float:
        """Return the level of each of the two one-sided tests: alpha is spent on one side."""
        # compute_levels is two-sided
        return self.find_level(seeds, alpha=2 * ALPHA) / 2

    def look_ahead(self, seeds: int, until: int) -> "LookPlan":
        """Return the plan as it will be at a later look, with the planned looks between having been."""
        between = {look for look in self.looks if seeds < look < until}
        return LookPlan(self.looks, self.spending, tuple(sorted({*self.looked, seeds} | between)))

    def describe(self, seeds: int, comparisons: int, alpha: float = ALPHA) -> Look:
        """Return the look at so many seeds."""
        reached = sum(look <= seeds for look in self.looks)
        place = "between" if reached else "before"
        if seeds in self.looks:
            place = "planned"
        elif seeds > self.last:
            place = "after"
        return Look(
            seeds=seeds,
            number=reached,
            planned=self.looks,
            spending=self.spending,
            level=self.find_level(seeds, comparisons, alpha=alpha),
            spent=SPENDING[self.spending](min(1.0, seeds / self.last), alpha),
            alpha=alpha,
            place=place,
        )
