"""One bit a value (BNN, arXiv:1602.02830).

    bipolar             x >= 0: 1, else -1
    bipolar=false       x >= 0: 1, else 0
    stochastic          in training, 1 with probability clip((x + 1) / 2, 0, 1)

clipped passes the gradient where |x| <= 1, as the paper does. BNN has a batch norm after each product, which takes back
that a weight of std 0.02 is now 1. No Linear here has, so it is refused for weights; binary_scaling keeps their size.
"""

import torch
from torch import Tensor

from gptlab.weights.format import Format, Ste
from gptlab.weights.format_bits import sign, to_compute_dtype


class Binary(Format):
    """Binary values without a scale: whatever its size, a value becomes one of two.

    bipolar     1 and -1; false for 1 and 0
    stochastic  draws the value in training
    ste         of the gradient, as in Format
    """

    scaled = False

    def __init__(self, *, bipolar: bool = True, stochastic: bool = False, ste: Ste = "clipped") -> None:
        super().__init__(ste=ste)
        self.bipolar, self.stochastic = bipolar, stochastic

    def quantize(self, x: Tensor) -> Tensor:
        x = to_compute_dtype(x)
        if self.stochastic and self.training:
            # P(x - u > 0) for u uniform in (-1, 1) is clip((x + 1) / 2, 0, 1)
            x = x - (2 * torch.rand_like(x) - 1)
        return sign(x) if self.bipolar else (sign(x) + 1) / 2

    def limits(self, x: Tensor) -> tuple[float, float]:
        return -1.0, 1.0

    def bits(self, features: int) -> float:
        return 1
