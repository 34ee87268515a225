"""Two Linears with an activation that is integrated from ELU and learned (xIELU, Huang 2024, arXiv:2411.13010).

    x > 0    p x^2 + b x              x <= 0    n (exp(x) - 1) - n x + b x

Its slope grows without bound on the right and is limited on the left, where it may be negative. b = 0.5;
p = softplus(a_p) and n = b + softplus(a_n) are learned for each layer, and start at 0.8 (Apertus, arXiv:2509.14233).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.model.mlp import MapRows, Mlp
from gptlab.model.shape import Shape

SLOPE, START = 0.5, 0.8
"""b, and the first values of p and n, of the paper."""


class XieluMlp(Mlp):
    """MLP of two Linears and two learned numbers.

    hidden  inner width; null is 4 x width
    bias    of the Linears
    """

    def __init__(self, shape: Shape, layer: int = 0, *, hidden: int | None = None, bias: bool = False) -> None:
        super().__init__()
        self.hidden = 4 * shape.width if hidden is None else hidden
        if self.hidden < 1:
            raise ValueError(f"hidden={hidden} is not positive; null fits model.width={shape.width}")
        self.up = nn.Linear(shape.width, self.hidden, bias)
        self.out = nn.Linear(self.hidden, shape.width, bias)
        self.right = nn.Parameter(torch.full((1,), math.log(math.expm1(START))))  # a_p
        self.left = nn.Parameter(torch.full((1,), math.log(math.expm1(START - SLOPE))))  # a_n

    def activation(self, x: Tensor) -> Tensor:
        """Return xIELU of x, feature by feature."""
        p, n = F.softplus(self.right), SLOPE + F.softplus(self.left)
        return torch.where(x > 0, p * x * x, n * (torch.expm1(x.clamp(max=0)) - x)) + SLOPE * x

    def compute(self, x, *, up: MapRows, out: MapRows) -> Tensor:
        return out(self.activation(up(x)))
