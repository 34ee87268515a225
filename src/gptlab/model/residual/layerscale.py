"""A learned gain for each feature of a branch: x + gain * f(N x) (LayerScale, Touvron 2021, arXiv:2103.17239).

The gains start small, so that a deep decoder starts as one that hardly has branches. The paper's 0.1 is for up to 18
layers, 1e-5 for up to 24, 1e-6 beyond.
"""

import torch
from torch import Tensor, nn

from gptlab.model.residual import Residual


class LayerScale(Residual):
    """Pre-norm residual with gains: read N x, write x + gain y.

    gain     of each feature at first; 1 starts as the pre-norm residual
    dropout  of what the branch writes
    """

    adds_branches = True

    def __init__(self, shape, layer, branch, norm, *, gain: float = 0.1, dropout: float = 0.0) -> None:
        super().__init__(shape, layer, branch, norm, dropout=dropout)
        self.norm = norm(shape.width, layer)
        self.gain = nn.Parameter(torch.full((shape.width,), gain))

    def read(self, stream: Tensor) -> Tensor:
        return self.norm(stream)

    def write(self, stream: Tensor, y: Tensor) -> Tensor:
        return stream + self.gain * self.dropout(y)
