"""Norm after the sum: N(x + f(x)) (Vaswani 2017, arXiv:1706.03762). Wants a small learning rate or a long warm-up."""

from torch import Tensor

from gptlab.model.residual import Residual


class Post(Residual):
    """Post-norm residual: read x, write N(x + y).

    dropout  of what the branch writes
    """

    adds_branches = True

    def __init__(self, shape, layer, branch, norm, *, dropout: float = 0.0) -> None:
        super().__init__(shape, layer, branch, norm, dropout=dropout)
        self.norm = norm(shape.width, layer)

    def read(self, stream: Tensor) -> Tensor:
        return stream

    def write(self, stream: Tensor, y: Tensor) -> Tensor:
        return self.norm(stream + self.dropout(y))
