"""A penalty that grows with distance, by a slope of each head (Press 2021, arXiv:2108.12409).

    bias = -slope_h (query - key)

Slopes are 2^(-8 h / n), h = 1..n, for n heads, a power of two; other counts take those of the power of two below, and
then every second one of the power above, as the authors' code does.
"""

import math

import torch
from torch import Tensor

from gptlab.model.position import Position
from gptlab.model.shape import Shape


class Alibi(Position):
    """Attention with linear biases. Embeddings and keys carry no position."""

    copies_numbers = True  # slopes, in each pass: no CUDA graph
    provides = frozenset({"bias"})

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.slopes = compute_slopes(shape.heads)

    def bias(self, query_positions: Tensor, key_positions: Tensor, layer: int) -> Tensor:
        # no buffer: a constant has no place in a checkpoint
        slope = torch.tensor(self.slopes, device=query_positions.device).view(1, -1, 1, 1)
        # keys ahead and padding are masked in any case; clamped so that none of them is rewarded
        return -slope * (query_positions[:, None, :, None] - key_positions[:, None, None, :]).clamp(min=0)


def compute_slopes(heads: int) -> list[float]:
    """Return the slope of each head, for any number of heads."""
    power = 2 ** math.floor(math.log2(heads))
    first = [2 ** (-8 * h / power) for h in range(1, power + 1)]
    # every second slope of 2 * power heads lies between two of the first list
    between = [2 ** (-8 * h / (2 * power)) for h in range(1, 2 * power + 1, 2)]
    return first + between[: heads - power]
