"""One bit a value (BNN, arXiv:1602.02830).

    bipolar             x >= 0: 1, else -1
    bipolar=false       x >= 0: 1, else 0
    stochastic          in training, 1 with probability clip((x + 1) / 2, 0, 1)

clipped passes the gradient where |x| <= 1, as the paper does.
"""

import torch
from torch import Tensor

from gptlab.compress.binades import work
from gptlab.compress.format import Format, Ste


class Binary(Format):
    """No scale: whatever its size, a value becomes 1 or the other."""

    def __init__(self, *, bipolar: bool = True, stochastic: bool = False, ste: Ste = "clipped") -> None:
        super().__init__(ste=ste)
        self.stochastic, self.other = stochastic, -1.0 if bipolar else 0.0

    def quantize(self, x: Tensor) -> Tensor:
        x = work(x)
        up = x > 2 * torch.rand_like(x) - 1 if self.stochastic and self.training else x >= 0
        return torch.where(x.isnan(), x, torch.where(up, 1.0, self.other))

    def limits(self, x: Tensor) -> tuple[float, float]:
        return -1.0, 1.0

    def bits(self, features: int) -> float:
        return 1
