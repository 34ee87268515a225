"""Norms on both sides of the branch: x + N2(f(N1 x)) (CogView, arXiv:2105.13290; Gemma 2, arXiv:2408.00118)."""

from torch import Tensor

from gptlab.model.residual import Residual


class Sandwich(Residual):
    """read N1 x, write x + N2 y."""

    def __init__(self, shape, layer, branch, norm, *, dropout: float = 0.0) -> None:
        super().__init__(shape, layer, branch, norm, dropout=dropout)
        self.norm = norm(shape.width, layer)
        self.norm_out = norm(shape.width, layer)

    def read(self, stream: Tensor) -> Tensor:
        return self.norm(stream)

    def write(self, stream: Tensor, y: Tensor) -> Tensor:
        return stream + self.dropout(self.norm_out(y))
