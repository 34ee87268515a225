"""LayerNorm (Ba 2016, arXiv:1607.06450): (x - mean) / sqrt(var + eps) * weight + bias, with the biased variance."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.model.norm import Norm


class LayerNorm(Norm):
    """LayerNorm over the last axis.

    eps   added to the variance
    bias  whether a shift is learned; false leaves it out (PaLM, nanoGPT)
    """

    def __init__(self, width: int, layer: int = 0, *, eps: float = 1e-5, bias: bool = True) -> None:
        super().__init__()
        if eps <= 0:
            raise ValueError(f"eps={eps} is not positive; try 1e-5")
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, eps=self.eps)
