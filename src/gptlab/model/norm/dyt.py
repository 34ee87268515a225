"""Dynamic tanh in place of a norm (Zhu 2025, arXiv:2503.10622): weight * tanh(alpha sqrt(width) x) + bias.

alpha, one number a layer, weight and bias are learned; nothing is averaged. In its language models the paper multiplies
embeddings by sqrt(width) and starts alpha at about 1 (widths up to 1,024). Departure: embeddings enter as they are and
the factor stands in the tanh, which is given the same, and alpha learns as fast.
"""

import torch
from torch import Tensor, nn

from gptlab.model.norm import Norm


class DynamicTanh(Norm):
    """Elementwise tanh with a learned slope.

    alpha  slope at first, over sqrt(width)
    """

    follows_width = True

    def __init__(self, width: int, layer: int = 0, *, alpha: float = 1.0) -> None:
        super().__init__()
        if alpha <= 0:
            raise ValueError(f"alpha={alpha} is not positive; try 1")
        # not a parameter: it is the paper's factor on embeddings, moved in here
        self.scale = width**0.5
        self.alpha = nn.Parameter(torch.full((1,), alpha))
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * torch.tanh(self.alpha * self.scale * x) + self.bias
