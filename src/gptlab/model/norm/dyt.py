"""Dynamic tanh in place of a norm (Zhu 2025, arXiv:2503.10622): weight * tanh(alpha x) + bias. Nothing is averaged.

alpha, one number a layer, weight and bias are learned. In its language models the paper multiplies embeddings by
sqrt(width) and starts alpha at about 1 (widths up to 1,024). Departure: embeddings enter as they are, so alpha starts
at sqrt(width), which gives tanh the same.
"""

import torch
from torch import Tensor, nn

from gptlab.model.norm import Norm


class DynamicTanh(Norm):
    """Elementwise tanh with a learned slope.

    alpha  slope at first; null is sqrt(width)
    """

    def __init__(self, width: int, layer: int = 0, *, alpha: float | None = None) -> None:
        super().__init__()
        if alpha is not None and alpha <= 0:
            raise ValueError(f"alpha={alpha} is not positive; null is sqrt(width)")
        self.alpha = nn.Parameter(torch.full((1,), width**0.5 if alpha is None else alpha))
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * torch.tanh(self.alpha * x) + self.bias
