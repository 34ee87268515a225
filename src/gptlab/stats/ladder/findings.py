"""Findings over a ladder of sizes, as plain data. A gain is baseline less arm: above 0 the arm is better."""

from dataclasses import dataclass, field
from typing import Literal

Word = Literal["holds", "shrinks", "grows", "flips", "not resolved", "no verdict"]
"""What a gain does from the smallest rung to the largest."""


@dataclass(frozen=True)
class Estimate:
    """A number and its interval, at the level of the study's look."""

    value: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 or -1 where the interval leaves 0 out, else 0."""
        return int(self.low > 0) - int(self.high < 0)


@dataclass(frozen=True)
class RungGain:
    """An arm at one rung.

    compute     training FLOPs of the baseline there
    gain        over the seeds that both finished, with the interval and the verdict of the size
    multiplier  compute that the baseline would need for the arm's loss, by the slope of its own losses over the
                ladder; None where that says nothing
    """

    size: str
    compute: float
    seeds: int
    gain: Estimate
    verdict: str
    multiplier: Estimate | None = None


@dataclass(frozen=True)
class ArmTrend:
    """An arm over all rungs.

    first, last  the fitted gain at the smallest and at the largest rung that it ran at
    change       last less first; low90, high90: its interval for equivalence
    per_decade   change for tenfold compute
    projected    the gain at the size that was asked for
    left_out     rungs without it, because it was worse at two before
    """

    arm: str
    word: Word
    rungs: list[RungGain]
    first: Estimate | None = None
    last: Estimate | None = None
    change: Estimate | None = None
    low90: float | None = None
    high90: float | None = None
    per_decade: Estimate | None = None
    projected: Estimate | None = None
    left_out: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Curve:
    """A fitted power law, L = floor + scale (C / reference)^-exponent, C in FLOPs."""

    arm: str
    floor: float
    scale: float
    exponent: float
    reference: float


@dataclass(frozen=True)
class LadderFindings:
    """All arms over the rungs.

    computes    training FLOPs of the baseline at each rung
    curves      of the baseline and of the arms, from three rungs on
    projection  size and FLOPs that gains are projected to
    level       of the intervals: alpha, or what the looks leave of it, over the number of arms
    misfit      probability that seeds alone depart so far from the curves; None without a degree of freedom
    """

    sizes: list[str]
    computes: list[float]
    baseline: str
    unit: str
    arms: list[ArmTrend]
    curves: list[Curve]
    projection: tuple[str, float] | None
    level: float
    misfit: float | None = None
    notes: list[str] = field(default_factory=list)
