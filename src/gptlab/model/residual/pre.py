"""Norm before the branch: x + f(N x) (GPT-2; Xiong 2020, arXiv:2002.04745)."""

from torch import Tensor

from gptlab.model.residual import Residual


class Pre(Residual):
    """Pre-norm residual: read N x, write x + y.

    dropout  of what the branch writes
    """

    adds_branches = True

    def __init__(self, shape, layer, branch, norm, *, dropout: float = 0.0) -> None:
        super().__init__(shape, layer, branch, norm, dropout=dropout)
        self.norm = norm(shape.width, layer)

    def read(self, stream: Tensor) -> Tensor:
        return self.norm(stream)

    def write(self, stream: Tensor, y: Tensor) -> Tensor:
        return stream + self.dropout(y)
