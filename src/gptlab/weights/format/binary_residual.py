"""A few signs a value, each of what those before it left (ReBNet, arXiv:1711.01243).

    r_0 = x        e_l = gamma_l sign(r_(l-1)), r_l = r_(l-1) - e_l        the sum of e_1 .. e_L, with sign(0) = 1

learnt   one gamma a level, |gamma_l| of a parameter that begins at (L, .., 1) / (1 + .. + L): for activations
greedy   gamma_l = mean |r_(l-1)| along the last axis, so level 1 is XNOR-Net's: for weights

clipped passes the gradient where |x| is at most the sum of the gammas.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from gptlab.weights.format import Format, Ste, refuse_outside
from gptlab.weights.format_bits import work


class BinaryResidual(Format):
    """levels: signs, and so bits, of a value."""

    def __init__(
        self, *, levels: int = 2, gamma: Literal["learnt", "greedy"] = "learnt", ste: Ste = "identity"
    ) -> None:
        super().__init__(ste=ste)
        refuse_outside("levels", levels, 1, 8)
        self.levels = levels
        falling = torch.arange(levels, 0, -1, dtype=torch.get_default_dtype())
        self.gamma = nn.Parameter(falling / falling.sum()) if gamma == "learnt" else None

    def quantize(self, x: Tensor) -> Tensor:
        return self.signs(x)[0]

    def limits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        high = self.signs(x)[1].detach()
        return -high, high

    def signs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(..., D) to the sum of its levels, and the sum of their gammas."""
        left = work(x) + 0.0  # no -0, whose sign would be -1; a difference is none
        said, reach = left.clamp(-1, 1).mul_(0), left.new_zeros(1)  # NaN stays
        for level in range(self.levels):
            size = left.abs().mean(-1, keepdim=True) if self.gamma is None else self.gamma[level].abs()
            size = size.where(size.isfinite(), torch.nan)
            signed = torch.ones_like(left).copysign_(left) * size
            said, reach = said + signed, reach + size
            left = left.sub_(signed.detach()) if level < self.levels - 1 else left
        return said, reach

    def bits(self, features: int) -> float:
        return self.levels * (1 + (32 / features if self.gamma is None else 0))
