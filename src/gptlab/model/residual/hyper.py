"""Hyper-connections: several streams side by side, mixed by learned numbers (Zhu 2024, arXiv:2409.19606; static form).

    read  N(sum of take_i stream_i)        write  stream_i = sum of mix_ij stream_j + give_i y

The embedding enters all streams alike, and their mean leaves (the paper's sum, but for a scale that the last norm
forgets). At first mix is the identity, give is 1, and branch n takes stream n mod streams alone: the decoder is the
pre-norm one, and the streams, which are equal, can come apart.
"""

import torch
from torch import Tensor, nn

from gptlab.model.residual import Residual


class Hyper(Residual):
    """The stream is (B, T, streams, width). The numbers are vectors, of one axis, which optimisers do not decay."""

    def __init__(self, shape, layer, branch, norm, *, streams: int = 2, dropout: float = 0.0) -> None:
        super().__init__(shape, layer, branch, norm, dropout=dropout)
        if streams < 1:
            raise ValueError(f"streams={streams} is not positive; 1 is the pre-norm residual with learned gains")
        self.streams = streams
        self.norm = norm(shape.width, layer)
        first = torch.zeros(streams)
        first[(2 * layer + (branch == "mlp")) % streams] = 1
        self.take = nn.Parameter(first)
        self.give = nn.Parameter(torch.ones(streams))
        self.mix = nn.Parameter(torch.eye(streams).flatten())

    def expand(self, x: Tensor) -> Tensor:
        return x.unsqueeze(-2).expand(-1, -1, self.streams, -1)

    def collapse(self, stream: Tensor) -> Tensor:
        return stream.mean(-2)

    def read(self, stream: Tensor) -> Tensor:
        return self.norm((self.take[:, None] * stream).sum(-2))

    def write(self, stream: Tensor, y: Tensor) -> Tensor:
        written = self.give[:, None] * self.dropout(y).unsqueeze(-2)
        for mix, one in zip(self.mix.view(self.streams, -1).unbind(1), stream.unbind(-2), strict=True):
            written = written + mix[:, None] * one.unsqueeze(-2)
        return written
