"""Runs of values along the last axis that share a power of two.

What they share cannot be told where one of them is NaN or infinite: then the whole block is NaN, as in OCP's formats.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from gptlab.weights.format_bits import power


def cut(x: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """(..., D) to blocks (..., N, block), the last filled up with zeros, and the largest magnitudes (..., N, 1)."""
    ragged = -x.shape[-1] % block
    rows = (F.pad(x, (0, ragged)) if ragged else x).unflatten(-1, (-1, block))
    return rows, rows.abs().amax(-1, keepdim=True)


def join(rows: Tensor, like: Tensor) -> Tensor:
    """Blocks (..., N, block) back to (..., D) as `like` has it."""
    return rows.flatten(-2)[..., : like.shape[-1]]


def spread(each: Tensor, block: int, like: Tensor) -> Tensor:
    """What a block shares (..., N, 1), at each of its values (..., D). By index: of an expanded view that is cut off,
    inductor makes wrong numbers on CPU (torch 2.13, 2026-11)."""
    return each.squeeze(-1).index_select(-1, torch.arange(like.shape[-1], device=like.device) // block)


def scales(top: Tensor, log2: Callable[[Tensor], Tensor], width: int) -> Tensor:
    """(..., N, 1) to powers of two, whose exponents are the log2 of it in so many bits, with a sign; 1 for zeros."""
    exponent = torch.where(top > 0, log2(top), 0).clamp(-(2 ** (width - 1)), 2 ** (width - 1) - 1)
    return power(exponent, top.dtype).where(top.isfinite(), torch.nan)


def shared_bits(width: int, block: int, features: int) -> float:
    """What blocks that share so many bits add to each value of a row, whose last block may be ragged."""
    return width * -(-features // block) / features
