"""Blocks of values along the last axis that share a power of two.

The scale of a block that holds NaN or infinity is unknown: then the whole block is NaN, as in OCP's formats.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from gptlab.weights.format_bits import exp2


def split_blocks(x: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """Return x (..., D) as blocks (..., N, block), the last padded with zeros, and largest magnitudes (..., N, 1)."""
    # zeros change no block's largest magnitude
    padding = -x.shape[-1] % block
    blocks = (F.pad(x, (0, padding)) if padding else x).unflatten(-1, (-1, block))
    return blocks, blocks.abs().amax(-1, keepdim=True)


def join_blocks(blocks: Tensor, like: Tensor) -> Tensor:
    """Return blocks (..., N, block) as (..., D), with the D of `like`."""
    return blocks.flatten(-2)[..., : like.shape[-1]]


def expand_blocks(shared: Tensor, block: int, like: Tensor) -> Tensor:
    """Return the shared number of each block, (..., N, 1), repeated for each of its values, (..., D).

    By index: of an expanded view that is cut off, inductor makes wrong numbers on CPU (torch 2.13, 2026-11).
    """
    return shared.squeeze(-1).index_select(-1, torch.arange(like.shape[-1], device=like.device) // block)


def compute_scales(largest: Tensor, log2: Callable[[Tensor], Tensor], width: int) -> Tensor:
    """Return powers of two for blocks' largest magnitudes (..., N, 1); 1 for zeros.

    Their exponents are `log2` of the magnitudes, clamped to `width` bits with a sign.
    """
    exponent = torch.where(largest > 0, log2(largest), 0).clamp(-(2 ** (width - 1)), 2 ** (width - 1) - 1)
    # an unknown scale makes the block NaN, as a silent number would hide the fault
    return exp2(exponent, largest.dtype).where(largest.isfinite(), torch.nan)


def count_shared_bits(width: int, block: int, features: int) -> float:
    """Return the bits that shared scales of `width` bits add to each value of a row, whose last block may be ragged."""
    return width * -(-features // block) / features
