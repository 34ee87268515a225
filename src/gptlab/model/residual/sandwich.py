"""Norms on both sides of the branch: x + N2(f(N1 x)) (CogView, arXiv:2105.13290; Gemma 2, arXiv:2408.00118).

The second norm gives every branch an RMS of 1, so embeddings must enter as loud, or the tokens drown. Gemma 2
multiplies them by sqrt(width), and they are N(0, 1 / width), so that the logits of a tied head begin with a std of 1.
Departure: CogView's scales and Gemma's softcaps are left out (readout.softcap, attention.softcap).
"""

import math

from torch import Tensor

from gptlab.model.residual import Residual


class Sandwich(Residual):
    """Sandwich-norm residual: read N1 x, write x + N2 y.

    unit_embeddings  embeddings (with what a position added) enter times sqrt(width), and start at std 1 / sqrt(width);
                     false lets them enter as the init drew them, which is CogView's
    dropout          of what the branch writes
    """

    adds_branches = True

    def __init__(self, shape, layer, branch, norm, *, unit_embeddings: bool = True, dropout: float = 0.0) -> None:
        super().__init__(shape, layer, branch, norm, dropout=dropout)
        self.scale = math.sqrt(shape.constant_width) if unit_embeddings else 1.0
        # drawn small and multiplied on entry: the tied head then begins with logits of std 1, not sqrt(width)
        self.embedding_std = shape.constant_width**-0.5 if unit_embeddings else None
        self.norm = norm(shape.width, layer)
        self.norm_out = norm(shape.width, layer)

    def expand(self, x: Tensor) -> Tensor:
        return x * self.scale

    def read(self, stream: Tensor) -> Tensor:
        return self.norm(stream)

    def write(self, stream: Tensor, y: Tensor) -> Tensor:
        return stream + self.dropout(self.norm_out(y))
