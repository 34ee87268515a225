"""Branches that are left out at random in training (Huang 2016, arXiv:1603.09382): x + b f(N x) / (1 - p).

b is 0 with probability p, drawn for each sequence and branch; p grows linearly with depth, to `drop` in the last layer.
Departure: the paper scales by 1 - p after training; here, as in timm, by 1 / (1 - p) in it, so that a trained decoder
is the pre-norm one. A branch that is left out is computed all the same.
"""

import torch
from torch import Tensor

from gptlab.model.residual import Residual


class StochasticDepth(Residual):
    """Pre-norm residual whose branches may be left out: read N x, write x + b y / (1 - p).

    drop     probability in the last layer; 0 is the pre-norm residual
    dropout  of what the branch writes
    """

    adds_branches = True

    def __init__(self, shape, layer, branch, norm, *, drop: float = 0.1, dropout: float = 0.0) -> None:
        super().__init__(shape, layer, branch, norm, dropout=dropout)
        if not 0 <= drop < 1:
            raise ValueError(f"drop={drop} is not in [0, 1); 0 leaves out nothing")
        self.norm, self.drop = norm(shape.width, layer), drop * (layer + 1) / shape.layers

    def read(self, stream: Tensor) -> Tensor:
        return self.norm(stream)

    def write(self, stream: Tensor, y: Tensor) -> Tensor:
        y = self.dropout(y)
        if self.training and self.drop:
            # for each sequence, (B, 1, 1): all of its positions go without the branch together
            keep = torch.rand(y.shape[0], 1, 1, device=y.device) >= self.drop
            y = y * (keep / (1 - self.drop)).to(y.dtype)
        return stream + y
