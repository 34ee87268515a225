"""Rotary frequencies for a longer context than the one that was trained on.

linear   all frequencies over the factor: positions are squeezed            Chen 2023, arXiv:2306.15595
ntk      theta grows by factor^(D / (D - 2)): the slowest pair is squeezed, the fastest hardly    bloc97 2023
llama3   pairs of more turns than `high` stay, of fewer than `low` are squeezed, between linear in turns    Llama 3.1
yarn     the same two ends, between linear in the pair's number; scores grow by (0.1 ln(factor) + 1)^2
         Peng 2023, arXiv:2309.00071

Turns are how often a pair of features goes round within the original context.
"""

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

ScalingKind = Literal["linear", "ntk", "llama3", "yarn"]
DEFAULT_HIGH = {"yarn": 32.0}
"""Default of `high`, in turns; 4 for the others."""


@dataclass(frozen=True)
class Scaling:
    """Parameters of a context extension.

    kind      formula, as in the head of this file
    factor    how many times longer the context becomes
    original  context that was trained on
    low       turns below which frequencies are divided by the factor (llama3, yarn)
    high      turns above which they stay; None is 32 for yarn, 4 for the others
    """

    kind: ScalingKind
    factor: float
    original: int
    low: float
    high: float | None

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise ValueError(f"factor={self.factor} is less than 1; a context twice as long wants 2")
        if self.original < 1:
            raise ValueError(f"original={self.original} is not positive; it is the context that was trained on")
        if not 0 < self.low < self.high_turns:
            raise ValueError(f"low={self.low} and high={self.high_turns} are no range of turns; try low=1.0 high=4.0")

    @property
    def high_turns(self) -> float:
        """Turns beyond which nothing changes."""
        return DEFAULT_HIGH.get(self.kind, 4.0) if self.high is None else self.high


def compute_frequencies(pair: Tensor, width: int, theta: float, scaling: Scaling | None) -> Tensor:
    """Return radians per position, (D / 2,), for even feature numbers (D / 2,) of heads of `width` features."""
    if scaling is None:
        return theta ** (-pair / width)
    if scaling.kind == "ntk":
        # theta so much larger that the slowest pair turns `factor` times slower, and the fastest as before
        return (theta * scaling.factor ** (width / (width - 2))) ** (-pair / width)
    plain = theta ** (-pair / width)
    if scaling.kind == "linear":
        return plain / scaling.factor
    if scaling.kind == "llama3":
        unscaled_share = _unscaled_share_by_turns(plain, scaling)
    else:
        unscaled_share = _unscaled_share_by_index(pair, width, theta, scaling)
    return plain * unscaled_share + plain / scaling.factor * (1 - unscaled_share)


def _unscaled_share_by_turns(plain: Tensor, scaling: Scaling) -> Tensor:
    """Return 1 for pairs that stay, 0 for those divided by the factor, (D / 2,); between, linear in turns."""
    turns = scaling.original * plain / (2 * math.pi)
    return ((turns - scaling.low) / (scaling.high_turns - scaling.low)).clamp(0, 1)


def _unscaled_share_by_index(pair: Tensor, width: int, theta: float, scaling: Scaling) -> Tensor:
    """Return the same, linear in the pair's number between those that turn `high` and `low` times, rounded outwards."""

    def find_pair(turns: float) -> float:
        # the real number i of the pair that turns so often: 2 pi turns = original theta^(-2 i / width)
        return width * math.log(scaling.original / (turns * 2 * math.pi)) / (2 * math.log(theta))

    first = max(math.floor(find_pair(scaling.high_turns)), 0)
    last = min(math.ceil(find_pair(scaling.low)), width - 1)
    # 0.001 where both ends fall on one pair: a step instead of a division by 0, as in the authors' code
    return 1 - ((pair / 2 - first) / (last - first or 0.001)).clamp(0, 1)


def attention_factor(scaling: Scaling | None) -> float:
    """Return the factor of cos and sin: yarn's temperature, on queries and keys alike; 1 for the others."""
    if scaling is None or scaling.kind != "yarn":
        return 1.0
    # on q and k alike, so scores have its square, which is 1 / t of the paper
    return 0.1 * math.log(scaling.factor) + 1
