"""Norm of what the branch gives, none of what it reads: x + N(f(x)) (OLMo 2, arXiv:2501.00656; Swin v2).

The norm gives every branch an RMS of 1, so embeddings must enter as loud, or the tokens drown (as residual=sandwich).
Departure: OLMo 2's are N(0, 0.02) and enter as they are; `unit_embeddings=false` does that.
"""

import math

from torch import Tensor

from gptlab.model.residual import Residual


class OutputOnly(Residual):
    """Reordered norm: read x, write x + N y.

    unit_embeddings  embeddings (with what a position added) enter times sqrt(width), and start at std 1 / sqrt(width);
                     false lets them enter as the init drew them, which is OLMo 2's
    dropout          of what the branch writes
    """

    adds_branches = True

    def __init__(self, shape, layer, branch, norm, *, unit_embeddings: bool = True, dropout: float = 0.0) -> None:
        super().__init__(shape, layer, branch, norm, dropout=dropout)
        self.scale = math.sqrt(shape.constant_width) if unit_embeddings else 1.0
        self.embedding_std = shape.constant_width**-0.5 if unit_embeddings else None
        self.norm = norm(shape.width, layer)

    def expand(self, x: Tensor) -> Tensor:
        return x * self.scale

    def read(self, stream: Tensor) -> Tensor:
        return stream

    def write(self, stream: Tensor, y: Tensor) -> Tensor:
        # as it is: the branch has no norm before it, and what it reads grows with depth
        return stream + self.dropout(self.norm(y))
