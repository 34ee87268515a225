"""Runs of values along the last axis that share an exponent.

What shares one cannot be told where one of its values is NaN or infinite: the whole block is NaN then, as in the OCP MX
format.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def cut(x: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """(..., D) to blocks (..., N, block), the last filled up with zeros, and the largest magnitudes (..., N, 1)."""
    rows = F.pad(x, (0, -x.shape[-1] % block)).unflatten(-1, (-1, block))
    return rows, rows.abs().amax(-1, keepdim=True)


def join(rows: Tensor, top: Tensor, like: Tensor) -> Tensor:
    """Blocks (..., N, block) back to (..., D) as `like` has it, those whose `top` is no number NaN."""
    return rows.masked_fill(~top.isfinite(), torch.nan).flatten(-2)[..., : like.shape[-1]]


def exponents(top: Tensor, log2: Callable[[Tensor], Tensor], width: int) -> Tensor:
    """(..., N, 1) to log2 of it as a signed integer of so many bits; 0 for a block of zeros."""
    return torch.where(top > 0, log2(top), 0).clamp(-(2 ** (width - 1)), 2 ** (width - 1) - 1)


def shared_bits(width: int, block: int, features: int) -> float:
    """What blocks that share so many bits add to each value of a row, whose last block may be ragged."""
    return width * -(-features // block) / features
