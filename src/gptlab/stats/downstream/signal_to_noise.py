"""Signal and noise of a downstream task: how far arms lie apart, over how much a score moves by itself.

    signal = largest difference between two arms' means / mean of all arms
    noise  = standard deviation of a score / mean of all arms
    ratio  = signal / noise

Source: Heineman et al. 2025, arXiv:2508.13144, where the noise is that of a model's last checkpoints. Here it is the
larger of two: that over the last checkpoints of a run, about a straight line, since short runs still improve; and that
over seeds, less what a seed does to all arms alike, since arms are compared by seed. A task whose ratio equal arms
reach by chance more often than in one study of twenty is weak: nothing should be decided by it.
"""

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

CHECKPOINTS = 5
"""Last evaluations of a run whose spread is noise, as in the paper's small models."""
CHANCE = 0.05
"""Share of studies of equal arms in which a task seems to have more signal than it needs."""


@dataclass(frozen=True)
class SignalToNoise:
    """Signal and noise of one task in one study.

    seed_noise        SD over the seeds that all arms have, less the mean of each seed, as a share of the mean; None
                      where these are less than two
    checkpoint_noise  SD over the last evaluations of a run, pooled over runs, likewise; None where runs have too few
    ratio             signal over the larger noise; None without any noise
    needed            ratio that equal arms reach by chance in one study of twenty; None without a ratio
    is_weak           whether the ratio is below what is needed
    """

    signal: float
    seed_noise: float | None
    checkpoint_noise: float | None
    ratio: float | None
    needed: float | None
    is_weak: bool


def measure_signal(
    values: Mapping[str, Mapping[int, float]], checkpoint_sds: Iterable[float] = ()
) -> SignalToNoise | None:
    """Return signal and noise of a task; None of less than two arms, or around a mean of zero.

    values          scores by arm and seed
    checkpoint_sds  of every run, the SD over its last evaluations
    """
    arms = [by_seed for by_seed in values.values() if by_seed]
    seeds = sorted(set.intersection(*map(set, arms))) if arms else []
    table: list[list[float]] = []
    means: list[float] = []
    for by_seed in arms:
        row = [by_seed[seed] for seed in seeds]
        table.append(row)
        # without a seed that all arms have, each arm's mean is over its own
        means.append(statistics.fmean(row or by_seed.values()))
    mean = abs(statistics.fmean(means)) if means else 0.0
    if len(means) < 2 or not mean:
        return None
    sds = [*checkpoint_sds]
    seed_sd = _measure_seed_noise(table)
    checkpoint_sd = math.sqrt(statistics.fmean(sd**2 for sd in sds)) if sds else None
    noise = max((sd for sd in (seed_sd, checkpoint_sd) if sd is not None), default=0.0)
    spread = max(means) - min(means)
    ratio = needed = None
    if noise:
        # a line takes two degrees of freedom of a run's last evaluations
        seed_df, checkpoint_df = (len(arms) - 1) * (len(seeds) - 1), len(sds) * (CHECKPOINTS - 2)
        needed = find_chance_ratio(len(arms), max(1, len(seeds)), seed_df if seed_sd is not None else checkpoint_df)
        ratio = spread / noise
    return SignalToNoise(
        signal=spread / mean,
        seed_noise=None if seed_sd is None else seed_sd / mean,
        checkpoint_noise=None if checkpoint_sd is None else checkpoint_sd / mean,
        ratio=ratio,
        needed=needed,
        is_weak=ratio is not None and needed is not None and ratio < needed,
    )


def _measure_seed_noise(rows: list[list[float]]) -> float | None:
    """Return the SD of scores, a row an arm, a column a seed, less the means of both; None of less than two seeds."""
    seeds = len(rows[0])
    if seeds < 2:
        return None
    arm_means = [statistics.fmean(row) for row in rows]
    seed_means = [statistics.fmean(column) for column in zip(*rows, strict=True)]
    mean = statistics.fmean(arm_means)
    squares = 0.0
    for row, arm_mean in zip(rows, arm_means, strict=True):
        residuals = (score - arm_mean - seed_mean + mean for score, seed_mean in zip(row, seed_means, strict=True))
        squares += sum(residual**2 for residual in residuals)
    return math.sqrt(squares / ((len(rows) - 1) * (seeds - 1)))


@cache
def find_chance_ratio(arms: int, seeds: int, df: int) -> float:
    """Return the ratio that equal arms exceed in `CHANCE` of studies: Tukey's studentized range of means of `seeds`."""
    from scipy.stats import studentized_range  # here, because it takes half a second

    return float(studentized_range.ppf(1 - CHANCE, arms, df)) / math.sqrt(seeds)


def measure_checkpoint_noise(scores: list[float]) -> float | None:
    """Return the SD of a run's last evaluations about a straight line; None of fewer than `CHECKPOINTS`."""
    last = scores[-CHECKPOINTS:]
    if len(last) < CHECKPOINTS:
        return None
    line = statistics.linear_regression(range(CHECKPOINTS), last)
    residuals = [score - line.intercept - line.slope * place for place, score in enumerate(last)]
    return math.sqrt(sum(residual**2 for residual in residuals) / (CHECKPOINTS - 2))
