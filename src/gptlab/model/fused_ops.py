"""Elementwise formulas with backward passes written by hand.

torch fuses none of these on CPU: autograd keeps each step of the formula and passes over memory again for each of
them. Compiled, and on GPUs, the plain formula is the fastest, because a compiler fuses it.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Return x / sqrt(mean(x^2) + eps) * weight, for x (..., D) and weight (D,)."""
    if x.is_cuda or torch.compiler.is_compiling():
        return F.rms_norm(x, weight.shape, weight, eps)
    return RmsNorm.apply(x, weight, eps)  # type: ignore[no-any-return]


class RmsNorm(Function):
    """RMS norm. With r = 1 / rms: dx = r (g - x r^2 mean(g x)), where g = dy weight; dweight = sum(dy x r).

    A pass over memory costs as much as its arithmetic, so products with r are left to the two matrix-vector products:
    at 768 x 128 on one thread 0.13 ms forward and back, F.rms_norm 0.21 (2026-11).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        # one kernel for |x|^2 / D + eps: a Python number in `add` or `div` costs 10 us as a tensor of its own
        inverse_rms = torch.addcmul(norm.new_full((), eps), norm, norm, value=1 / x.shape[-1]).rsqrt_()
        # x and not x / rms is kept: one tensor less to write
        ctx.save_for_backward(x, inverse_rms, weight)
        normalized = x * inverse_rms
        # under autocast a branch may come in bfloat16, which the weight promotes
        return normalized.mul_(weight) if normalized.dtype == weight.dtype else normalized * weight

    @staticmethod
    # refuses a second derivative, of which the formula below knows nothing
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, None]:
        x, inverse_rms, weight = ctx.saved_tensors
        inverse_rms = inverse_rms.to(dy.dtype)
        dy_x = (dy * x).flatten(0, -2)  # (rows, D)
        rows = inverse_rms.flatten()
        # beta=0: `rows` gives addmv its shape, and alpha is the division by -D
        mean = torch.addmv(rows, dy_x, weight, beta=0, alpha=-1 / weight.numel()).view_as(inverse_rms)
        dx = (dy * weight).addcmul_(x, mean.mul_(inverse_rms).mul_(inverse_rms)).mul_(inverse_rms)
        return dx, torch.mv(dy_x.t(), rows), None


def rotate_halves(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Return x cos + (x with its halves swapped) sin, for x = q (B, T, H, D) and x = k (B, T, K, D).

    cos and sin are (B|1, T, 1|H, D); of H heads k, which has no more of them, takes the first K. The first half of sin
    has the other sign of the second, as rotations have.
    """
    if q.is_cuda or torch.compiler.is_compiling():
        heads = k.shape[2]
        return (
            torch.addcmul(q * cos, q.roll(q.shape[-1] // 2, -1), sin),
            torch.addcmul(k * cos[:, :, :heads], k.roll(k.shape[-1] // 2, -1), sin[:, :, :heads]),
        )
    return RotateHalves.apply(q, k, cos, sin)  # type: ignore[no-any-return]


class RotateHalves(Function):
    """Rotation whose gradient is rotated back, of queries and keys in one node of the graph.

    At 12 x 64 x 4 x 32, one thread, 0.19 ms forward and back for both; as two nodes and by `roll`, which writes a
    swapped copy, 0.27 (2026-11; the same bits).
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(cos, sin)
        return _rotate(q, cos, sin, 1), _rotate(k, cos, sin, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dq: Tensor, dk: Tensor) -> tuple[Tensor, Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _rotate(dq, cos, sin, -1), _rotate(dk, cos, sin, -1), None, None


def _rotate(x: Tensor, cos: Tensor, sin: Tensor, sign: int) -> Tensor:
    """Rotate x (B, T, H, D), or rotate it back where sign = -1."""
    heads, half = x.shape[2], x.shape[-1] // 2
    cos, sin = cos[:, :, :heads], sin[:, :, :heads]
    rotated = x * cos
    # each half takes its part of the other where it lies
    rotated[..., :half].addcmul_(x[..., half:], sin[..., :half], value=sign)
    rotated[..., half:].addcmul_(x[..., :half], sin[..., half:], value=sign)
    return rotated
