"""The gain of an arm as a function of log compute, with the errors of the seeds and of the fit.

From three rungs on the losses of all arms are power laws with one floor (`power_laws`), and the gain is the difference
of two; through two rungs it is a line. A line through more of them is no substitute: projected tenfold, its 95 %
intervals hold 3 to 93 % of planted power laws, those of the curves 93 to 98 % (tests/stats/test_ladder.py).

Every number here is a function of the cells' mean losses, so its error is that of a weighted sum of losses in each
seed, with weights from the fit's derivatives (the delta method). Rungs are independent, and each brings its own
variance; Satterthwaite's degrees of freedom (1946, Biometrics Bull. 2:110). That is the bootstrap over seeds without
its fault: resampling three seeds holds three times in four what it should hold in 95 % (`paired_tests`). Where the
cells depart from the curves by more than seeds explain, all variances grow by that ratio (Birge 1932, Phys. Rev.
40:207).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy import stats

from gptlab.stats.ladder.findings import Estimate, Word
from gptlab.stats.ladder.power_laws import PowerLaws, fit_power_laws

Cell = tuple[str, int]
"""An arm and a rung."""
MISFIT = 0.05
"""Probability below which it is not put down to the seeds how far the cells are from the curves."""
MAX_LOG_FACTOR = math.log(1000)
"""Largest compute multiplier, and its interval, that is told."""


class Model(Protocol):
    """Losses over x = ln(C / C_ref); what `PowerLaws` offers."""

    def predict(self, arm: int, x: float) -> float: ...

    def compute_gradient(self, arm: int, x: float) -> np.ndarray: ...


@dataclass(frozen=True)
class Lines:
    """A line for each arm, through its two cells."""

    arms: np.ndarray
    x: np.ndarray
    losses: np.ndarray

    def predict(self, arm: int, x: float) -> float:
        """Return the loss of an arm at x."""
        return float(self.compute_gradient(arm, x) @ self.losses)

    def compute_gradient(self, arm: int, x: float) -> np.ndarray:
        """Return the change of `predict(arm, x)` with the loss of each cell, (cells,)."""
        first, second = np.flatnonzero(self.arms == arm)
        share = (x - self.x[first]) / (self.x[second] - self.x[first])
        gradient = np.zeros(len(self.x))
        gradient[first], gradient[second] = 1 - share, share
        return gradient


@dataclass(frozen=True)
class LadderFit:
    """Fitted losses of some arms over some rungs.

    cells    in order
    blocks   of each rung, the cells' numbers and their losses by seed, (cells of the rung, seeds)
    inflate  factor of all variances, above 1 where the cells depart from the curves
    misfit   probability of such a departure by seeds alone
    """

    arms: list[str]
    cells: list[Cell]
    x: np.ndarray
    model: Model
    blocks: list[tuple[list[int], np.ndarray]]
    inflate: float = 1.0
    misfit: float | None = None

    def estimate(self, value: float, weights: np.ndarray, level: float) -> Estimate:
        """Return an estimate with its interval, from how it changes with each cell's loss, (cells,)."""
        error, df = self.measure_error(weights)
        # no degree of freedom, no interval: it reaches to infinity
        half = float(stats.t.isf(level / 2, df)) * error if df else math.inf
        return Estimate(value, value - half, value + half)

    def measure_error(self, weights: np.ndarray) -> tuple[float, float]:
        """Return the standard error of a weighted sum of the cells' means, and its degrees of freedom."""
        variances, dfs = [], []
        for numbers, losses in self.blocks:
            # within each seed first, so that what the arms of a seed share cancels
            # (seeds,): the weighted sum that each seed alone would give
            sums = weights[numbers] @ losses
            variances.append(float(sums.var(ddof=1)) / len(sums))
            dfs.append(len(sums) - 1)
        total = sum(variances)
        # Satterthwaite: each rung's variance counts by its square over its degrees of freedom
        squares = sum(variance**2 / df for variance, df in zip(variances, dfs, strict=True))
        df = total**2 / squares if squares else float(sum(dfs))
        return math.sqrt(total * self.inflate), df

    def gain(self, arm: str, against: str, x: float) -> tuple[float, np.ndarray]:
        """Return the fitted gain of an arm at x, and how it changes with each cell's loss."""
        first, second = self.arms.index(against), self.arms.index(arm)
        value = self.model.predict(first, x) - self.model.predict(second, x)
        return value, self.model.compute_gradient(first, x) - self.model.compute_gradient(second, x)

    def estimate_gain(self, arm: str, against: str, x: float, level: float) -> Estimate:
        """Return the fitted gain of an arm at x."""
        return self.estimate(*self.gain(arm, against, x), level)

    def estimate_change(self, arm: str, against: str, x: tuple[float, float], level: float) -> Estimate:
        """Return the fitted gain at the second x less that at the first."""
        (before, at_first), (after, at_last) = (self.gain(arm, against, point) for point in x)
        return self.estimate(after - before, at_last - at_first, level)

    def estimate_multiplier(self, arm: str, against: str, rung: int, level: float) -> Estimate | None:
        """Return the compute that the baseline would need for an arm's loss at a rung, as a multiple.

        It is exp(difference / slope), with the slope of the baseline's curve there, and the errors of both.
        """
        own, base = (self.cells.index((name, rung)) for name in (arm, against))  # cells at this rung
        number, x, step = self.arms.index(against), self.x[base], 1e-4
        # central differences of the baseline's curve, and of the slope's own gradient by each cell's mean
        slope = (self.model.predict(number, x + step) - self.model.predict(number, x - step)) / (2 * step)
        # where more compute does not help the baseline, none is worth the difference
        if slope >= 0:
            return None
        changes = self.model.compute_gradient(number, x + step) - self.model.compute_gradient(number, x - step)
        means = self.average_losses()
        difference = means[own] - means[base]
        # the derivative of difference / slope by each cell's mean: quotient rule
        weights = -difference / slope**2 * changes / (2 * step)
        weights[own] += 1 / slope
        weights[base] -= 1 / slope
        # of the logarithm, whose errors are nearer to symmetric than a multiple's
        log = self.estimate(difference / slope, weights, level)
        if max(abs(log.low), abs(log.high)) > MAX_LOG_FACTOR:
            return None
        return Estimate(math.exp(log.value), math.exp(log.low), math.exp(log.high))

    def average_losses(self) -> np.ndarray:
        """Return the mean loss of each cell."""
        means = np.zeros(len(self.cells))
        for numbers, losses in self.blocks:
            means[numbers] = losses.mean(1)
        return means


def fit_ladder(losses: Mapping[Cell, Mapping[int, float]], x: np.ndarray) -> LadderFit | None:
    """Fit the losses of all arms; None where a rung has fewer than two seeds in common.

    losses  of each arm and rung, by seed; all arms have the first rungs, and the first arm has all of them
    x       ln(C / C_ref) of each rung
    """
    arms = list(dict.fromkeys(arm for arm, _ in losses))
    cells = [*losses]
    blocks = []
    for rung in sorted({rung for _, rung in cells}):
        numbers = [number for number, cell in enumerate(cells) if cell[1] == rung]
        by_seed = [losses[cells[number]] for number in numbers]
        # those that all arms of the rung have: sums over arms are paired by seed
        seeds = sorted(set.intersection(*map(set, by_seed)))
        if len(seeds) < 2:
            return None
        table = np.zeros((len(numbers), len(seeds)))
        for row, losses_of_cell in enumerate(by_seed):
            table[row] = [losses_of_cell[seed] for seed in seeds]
        blocks.append((numbers, table))
    numbers_of_arms = np.array([arms.index(arm) for arm, _ in cells])
    places = np.array([x[rung] for _, rung in cells])
    means = np.zeros(len(cells))
    for numbers, values in blocks:
        means[numbers] = values.mean(1)
    if len(blocks) < 3:
        lines = Lines(numbers_of_arms, places, means)
        return LadderFit(arms=arms, cells=cells, x=places, model=lines, blocks=blocks)
    laws = fit_power_laws(numbers_of_arms, places, means)
    fit = LadderFit(arms=arms, cells=cells, x=places, model=laws, blocks=blocks)
    # as many parameters as cells: the curves pass through all of them, and nothing can misfit
    if laws.df < 1:
        return fit
    misfit, ratio = _measure_misfit(laws, blocks)
    return replace(fit, inflate=ratio if misfit < MISFIT else 1.0, misfit=misfit)


def _measure_misfit(laws: PowerLaws, blocks: list[tuple[list[int], np.ndarray]]) -> tuple[float, float]:
    """Return the probability of such residuals by seeds alone, and their squares over those that seeds explain."""
    residuals = laws.residuals
    rest = np.eye(len(residuals)) - laws.project
    expected = 0.0
    for numbers, losses in blocks:
        # the mean square of (I - project) e for errors e of the seeds, rung by rung, as rungs are independent
        covariance = np.atleast_2d(np.cov(losses)) / losses.shape[1]
        expected += float(np.trace(rest[:, numbers] @ covariance @ rest[:, numbers].T))
    if expected <= 0:
        return 1.0, 1.0
    ratio = float(residuals @ residuals) / expected
    seeds_df = sum(losses.shape[1] - 1 for _, losses in blocks)
    return float(stats.f.sf(ratio, laws.df, seeds_df)), max(1.0, ratio)


def decide_word(first: Estimate, last: Estimate, change: Estimate, equivalence: Estimate, delta: float) -> Word:
    """Return the word for how a gain changes from the smallest rung to the largest.

    equivalence  the change, with the interval of equivalence (90 % where nothing is spent on looks)
    delta        margin of the study: smaller differences do not matter

    A change that is certain, and certainly smaller than delta, is no change, as in the verdicts of sizes. A gain that
    is other than 0 in the mean of both ends holds if it certainly keeps more than half of its size and adds less.
    """
    if -delta < equivalence.low and equivalence.high < delta:
        return "holds"
    if first.sign * last.sign == -1:
        return "flips"
    if change.sign:
        if not first.sign and not last.sign:
            return "not resolved"
        return "grows" if abs(last.value) > abs(first.value) else "shrinks"
    margin = abs(first.value + last.value) / 4  # half of the mean of both ends
    if first.sign == last.sign != 0 and -margin < equivalence.low and equivalence.high < margin:
        return "holds"
    return "not resolved"
