"""Formulas that work on each feature, with backward passes written by hand.

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
    """(..., D), (D,) to (..., D): x / sqrt(mean(x^2) + eps) * weight."""
    if x.is_cuda or torch.compiler.is_compiling():
        return F.rms_norm(x, weight.shape, weight, eps)
    return RmsNorm.apply(x, weight, eps)  # type: ignore[no-any-return]


class RmsNorm(Function):
    """With n = x / rms: dx = (g - n mean(g n)) / rms, where g = dy weight; dweight = sum(dy n). At 768 x 128 on one
    thread 0.54 ms forward and back; F.rms_norm 0.88 (2026-11)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse = size.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        normal = x * inverse
        ctx.save_for_backward(normal, inverse, weight)
        return normal * weight

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, None]:
        normal, inverse, weight = ctx.saved_tensors
        both = dy * normal
        mean = (both @ weight).div_(weight.numel())[..., None]
        dx = (dy * weight).addcmul_(normal, mean, value=-1).mul_(inverse)
        return dx, both.flatten(0, -2).sum(0), None
