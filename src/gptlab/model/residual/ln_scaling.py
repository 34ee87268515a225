"""Pre-norm whose output shrinks with depth: x + f(N x / sqrt(l)), l = 1, 2, ... (Sun 2025, arXiv:2502.05795).

What a pre-norm stream has gathered grows with depth, and deep branches do little beside it; the paper scales what they
read so that the variance grows less. Departure: it drops the depth factor of the init of `out`, ours keeps it.
"""

from torch import Tensor

from gptlab.model.residual import Residual


class LnScaling(Residual):
    """Pre-norm residual with a fixed factor: read N x / sqrt(layer + 1), write x + y.

    dropout  of what the branch writes
    """

    def __init__(self, shape, layer, branch, norm, *, dropout: float = 0.0) -> None:
        super().__init__(shape, layer, branch, norm, dropout=dropout)
        self.norm, self.scale = norm(shape.width, layer), (layer + 1) ** -0.5

    def read(self, stream: Tensor) -> Tensor:
        return self.norm(stream) * self.scale

    def write(self, stream: Tensor, y: Tensor) -> Tensor:
        return stream + self.dropout(y)
