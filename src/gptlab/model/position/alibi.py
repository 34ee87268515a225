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

    provides = frozenset({"bias"})

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.heads = shape.heads

    def bias(self, query_positions: Tensor, key_positions: Tensor, layer: int) -> Tensor:
        # no buffer: a constant has no place in a checkpoint, and DDP would share it in each pass
        slope = compute_slopes(self.heads, query_positions.device).view(1, -1, 1, 1)
        # keys ahead and padding are masked in any case; clamped so that none of them is rewarded
        return -slope * (query_positions[:, None, :, None] - key_positions[:, None, None, :]).clamp(min=0)


def compute_slopes(heads: int, device: torch.device | None = None) -> Tensor:
    """Return the slope of each head, (heads,), for any number of heads; made on the device, so that nothing is copied.

    In float64 up to the last rounding, so that they are the same wherever they are made.
    """
    power = 2 ** math.floor(math.log2(heads))
    first = torch.arange(1, power + 1, device=device, dtype=torch.float64)  # h
    # every second slope of 2 * power heads lies between two of the first ones
    between = torch.arange(heads - power, device=device, dtype=torch.float64) + 0.5
    return torch.exp2(-8 / power * torch.cat([first, between])).float()
