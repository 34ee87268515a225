"""One learned gain for each branch, 0 at first, and no norm: x + gain f(x) (ReZero, arXiv:2003.04887).

The decoder starts as the identity. Only the norm before the readout stays (final_norm).
"""

import torch
from torch import Tensor, nn

from gptlab.model.residual import Residual


class ReZero(Residual):
    """Residual without norms: read x, write x + gain y.

    gain     at first
    dropout  of what the branch writes
    """

    adds_branches = True

    def __init__(self, shape, layer, branch, norm, *, gain: float = 0.0, dropout: float = 0.0) -> None:
        super().__init__(shape, layer, branch, norm, dropout=dropout)
        self.gain = nn.Parameter(torch.full((1,), gain))

    def read(self, stream: Tensor) -> Tensor:
        return stream

    def write(self, stream: Tensor, y: Tensor) -> Tensor:
        return stream + self.gain * self.dropout(y)
