"""RMSNorm without a weight (Karpathy 2025, nanochat; OLMo 1 does the same to LayerNorm): x / sqrt(mean(x^2) + eps).

The Linear behind a norm can hold its weight; what is lost is that the weight does not decay and learns at its own pace.
"""

import torch.nn.functional as F
from torch import Tensor

from gptlab.model.norm import Norm


class WeightlessRMSNorm(Norm):
    """RMS norm over the last axis, with nothing to learn.

    eps  added to the mean square
    """

    def __init__(self, width: int, layer: int = 0, *, eps: float = 1e-6) -> None:
        super().__init__()
        if eps <= 0:
            raise ValueError(f"eps={eps} is not positive; try 1e-5")
        self.width, self.eps = width, eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (self.width,), eps=self.eps)
