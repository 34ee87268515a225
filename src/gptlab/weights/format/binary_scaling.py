"""A sign a value and a magnitude a row (XNOR-Net, arXiv:1603.05279).

    alpha sign(x)        alpha = mean |x|, sign(0) = 1

alpha is the scale of the least squared error. clipped passes the gradient where |x| <= 1, as the paper does.
"""

from typing import Literal

import torch
from torch import Tensor

from gptlab.weights.format import Format, Ste
from gptlab.weights.format_bits import sign, to_compute_dtype


class BinaryScaling(Format):
    """Binary values with a scale.

    scale  per_row takes the mean along the last axis; per_tensor, for weights alone, over all
    ste    of the gradient, as in Format
    """

    def __init__(self, *, scale: Literal["per_row", "per_tensor"] = "per_row", ste: Ste = "clipped") -> None:
        super().__init__(ste=ste)
        self.scale = scale

    def quantize(self, x: Tensor) -> Tensor:
        x = to_compute_dtype(x)
        if self.scale == "per_tensor" and x.dim() > 2:
            raise ValueError("scale=per_tensor on an activation lets later tokens change earlier ones; try per_row")
        # along the last axis: in an activation that is one token, so later ones change nothing
        alpha = x.abs().mean(-1, keepdim=True) if self.scale == "per_row" else x.abs().mean()
        return sign(x).mul_(alpha.where(alpha.isfinite(), torch.nan))

    def limits(self, x: Tensor) -> tuple[float, float]:
        return -1.0, 1.0

    def bits(self, features: int) -> float:
        return 1 + (32 / features if self.scale == "per_row" else 0)
