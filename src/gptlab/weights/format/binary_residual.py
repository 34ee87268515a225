"""Sums of a few signs a value, each of what those before it left (ReBNet, arXiv:1711.01243).

    r_0 = x        e_l = gamma_l sign(r_(l-1)), r_l = r_(l-1) - e_l        the sum of e_1 .. e_L, with sign(0) = 1

learnt   one gamma a level, |gamma_l| of a parameter that begins at (L, .., 1) / (1 + .. + L): for activations
greedy   gamma_l = mean |r_(l-1)| along the last axis, so level 1 is XNOR-Net's: for weights

greedy is the default: a learnt gamma that begins at 2/3 makes weights of std 0.02 some thirty times as large, and no
norm follows to take that back. ReBNet learns it for activations, which its batch norm gives a size of 1.

clipped passes the gradient where |x| is at most the sum of the gammas.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from gptlab.weights.format import Format, Ste, refuse_outside
from gptlab.weights.format_bits import to_compute_dtype


class BinaryResidual(Format):
    """Residual binary values.

    levels  number of signs, and so of bits, of a value
    gamma   learnt or greedy
    ste     of the gradient, as in Format
    """

    def __init__(
        self, *, levels: int = 2, gamma: Literal["learnt", "greedy"] = "greedy", ste: Ste = "identity"
    ) -> None:
        super().__init__(ste=ste)
        refuse_outside("levels", levels, 1, 8)
        self.levels = levels
        falling = torch.arange(levels, 0, -1, dtype=torch.get_default_dtype())
        self.gamma = nn.Parameter(falling / falling.sum()) if gamma == "learnt" else None

    def quantize(self, x: Tensor) -> Tensor:
        return self.sum_levels(x)[0]

    def limits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        high = self.sum_levels(x)[1].detach()
        return -high, high

    def sum_levels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of the levels of x (..., D), and the sum of their gammas."""
        residual = to_compute_dtype(x) + 0.0  # no -0, whose sign would be -1; a difference is none
        total, gamma_total = residual.clamp(-1, 1).mul_(0), residual.new_zeros(1)  # NaN stays
        for level in range(self.levels):
            gamma = residual.abs().mean(-1, keepdim=True) if self.gamma is None else self.gamma[level].abs()
            gamma = gamma.where(gamma.isfinite(), torch.nan)
            estimate = torch.ones_like(residual).copysign_(residual) * gamma
            total, gamma_total = total + estimate, gamma_total + gamma
            # what is left for the next level; the gammas learn through the sum alone
            residual = residual.sub_(estimate.detach()) if level < self.levels - 1 else residual
        return total, gamma_total

    def bits(self, features: int) -> float:
        # greedy keeps a float32 gamma a row and level; a learnt one is shared by all rows
        return self.levels * (1 + (32 / features if self.gamma is None else 0))
