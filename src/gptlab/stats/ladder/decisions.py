"""Findings on decision accuracy, and the losses that they are of, as plain data."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from gptlab.stats.ladder.findings import Estimate

Outcome = Literal["same", "reversed", "small alone", "large alone", "open"]
"""Of a decision: the signs where both sizes resolve it; else which one does, if any."""


@dataclass(frozen=True, kw_only=True)
class RungLosses:
    """Losses of all arms at one size of a ladder.

    flops   of the baseline's training
    losses  by arm and seed, of the runs that finished, at each arm's best rate where rates were tuned
    """

    size: str
    flops: float
    losses: dict[str, dict[int, float]]


@dataclass(frozen=True, kw_only=True)
class LadderLosses:
    """What decision accuracy needs of one ladder.

    metric  key of summary.json that decides
    slots   the slot of each arm's change; several are joined by +
    rungs   from small to large
    """

    study: str
    baseline: str
    metric: str
    tuned: bool
    slots: dict[str, str]
    rungs: list[RungLosses]

    @property
    def sizes(self) -> list[str]:
        """The sizes of its rungs, from small to large."""
        return [rung.size for rung in self.rungs]

    def find_rung(self, size: str) -> RungLosses:
        """Return the rung of a size."""
        return self.rungs[self.sizes.index(size)]


@dataclass(frozen=True)
class Difference:
    """An arm less the baseline at one size, over the seeds that both finished; the interval is of it alone."""

    mean: float
    low: float
    high: float
    by_seed: tuple[float, ...]

    @property
    def is_resolved(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Decision:
    """One arm at two sizes. `chance`: that the true signs agree, given the errors of the seeds."""

    study: str
    arm: str
    slot: str
    small: Difference
    large: Difference
    chance: float

    @property
    def agrees(self) -> bool:
        """Whether the mean differences have the same sign."""
        return bool(np.sign(self.small.mean) == np.sign(self.large.mean))

    @property
    def outcome(self) -> Outcome:
        """What became of the small size's answer at the large one."""
        if self.small.is_resolved and self.large.is_resolved:
            return "same" if self.agrees else "reversed"
        if self.small.is_resolved:
            return "small alone"
        return "large alone" if self.large.is_resolved else "open"


@dataclass(frozen=True)
class Share:
    """So many of so many, and Wilson's 95 % interval of the share (1927); without any it is 0 to 1."""

    agree: int
    of: int
    low: float
    high: float


@dataclass(frozen=True)
class OneSeed:
    """Shares of equal signs with one seed a size: across the sizes, and between two seeds of one size."""

    across: float
    small: float
    large: float


@dataclass(frozen=True)
class SizePair:
    """All decisions at a small and a large size.

    compute     training FLOPs at the large size over those at the small one, of the first study's baseline
    shares      observed: of all decisions, of those resolved at the small size, at the large one, at both
    true        share of decisions whose true signs agree, with its 95 % interval
    one_seed    None where no decision has two seeds at both sizes
    pairs       observed over all pairs of arms of a study; pairs_true: of the true signs
    undecided   arms without a difference at both sizes: a run diverged, failed or is missing
    """

    small: str
    large: str
    metric: str
    tuned: bool
    studies: list[str]
    compute: float
    decisions: list[Decision]
    shares: dict[str, Share]
    true: Estimate
    one_seed: OneSeed | None
    pairs: tuple[int, int]
    pairs_true: Estimate
    undecided: list[str]
