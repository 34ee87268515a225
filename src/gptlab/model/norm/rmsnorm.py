"""RMSNorm (Zhang 2019, arXiv:1910.07467): x / sqrt(mean(x^2) + eps) * weight. No mean is taken off, no bias added."""

import torch
from torch import Tensor, nn

from gptlab.model.fused_ops import rms_norm
from gptlab.model.norm import Norm


class RMSNorm(Norm):
    """RMS norm over the last axis.

    eps  added to the mean square
    """

    def __init__(self, width: int, layer: int = 0, *, eps: float = 1e-6) -> None:
        super().__init__()
        if eps <= 0:
            raise ValueError(f"eps={eps} is not positive; try 1e-5")
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)
