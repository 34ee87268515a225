"""What is found of two changes together, as plain data."""

from dataclasses import dataclass
from typing import Literal

InteractionVerdict = Literal["synergistic", "antagonistic", "additive", "not resolved"]
"""Together better, or worse, than the sum of both alone; the sum within delta; or these seeds cannot tell."""


@dataclass(frozen=True)
class Interaction:
    """A difference of differences: what the second change does beside the first, less what it does without it.

    alone, together  differences from the baseline's values, by the first, by the second, and by both
    contexts         combinations of values of the other axes, over which all is averaged
    interaction      together less the sum of both alone, over the seeds that all of these arms finished
    variance         pooled: of all arms of the size; own: of these differences alone
    """

    first: str  # "norm=layernorm"
    second: str
    contexts: int
    seeds: tuple[int, ...]
    first_alone: float
    second_alone: float
    together: float
    interaction: float
    low: float  # 95 % t-interval, over all looks
    high: float
    low90: float  # 90 %, for additivity (TOST at 5 %)
    high90: float
    sd: float  # of the interaction from seed to seed
    df: float
    variance: Literal["pooled", "own"]
    p: float
    p_holm: float  # over all interactions of this size
    level: float  # that p_holm is compared with
    verdict: InteractionVerdict
