"""Hyper-connections: several streams side by side, mixed by learned numbers (Zhu 2024, arXiv:2409.19606).

    read  N(sum of take_i stream_i)        write  stream_i = sum of mix_ij stream_j + give_i y

    static   take, mix and give are learned numbers
    dynamic  terms that depend on the streams are added: with u_j the RMS norm of stream_j,
             take_j + a tanh(u_j W_take)        mix_ij + a tanh(u_j W_mix)_i        give_i + b tanh(u_i W_give)

The default is the paper's own: dynamic, four streams (DHC x 4). The embedding enters all streams alike, and their mean
leaves (the paper's sum, but for a scale that the last norm forgets). At first mix is the identity, give is 1, branch n
takes stream n mod streams alone, W is 0, a and b are 0.01: the decoder is the pre-norm one, and the streams, which are
equal, can come apart. Departure: u has no weights of its own.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.model.mlp import count_weights
from gptlab.model.residual import Residual


class Hyper(Residual):
    """Hyper-connections; the stream is (B, T, streams, width).

    streams  how many; 1 is the pre-norm residual with learned gains
    dynamic  add coefficients that depend on the streams; false is the paper's static form
    dropout  of what the branch writes

    Static coefficients are vectors, which optimizers do not decay; W decays.
    """

    def __init__(
        self, shape, layer, branch, norm, *, streams: int = 4, dynamic: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__(shape, layer, branch, norm, dropout=dropout)
        if streams < 1:
            raise ValueError(f"streams={streams} is not positive; 1 is the pre-norm residual with learned gains")
        self.streams, self.dynamic = streams, dynamic
        self.norm = norm(shape.width, layer)
        # branches are counted down the depth, attention of layer l as 2 l, its MLP as 2 l + 1
        initial_take = torch.zeros(streams)
        initial_take[(2 * layer + (branch == "mlp")) % streams] = 1
        self.take = nn.Parameter(initial_take)
        self.give = nn.Parameter(torch.ones(streams))
        # flat, and so a vector, which optimizers leave without decay: decayed, the identity would fade
        self.mix = nn.Parameter(torch.eye(streams).flatten())
        if dynamic:
            self.dynamic_take = nn.Linear(shape.width, 1, bias=False)
            self.dynamic_write = nn.Linear(shape.width, streams + 1, bias=False)  # mix, then give
            self.alpha = nn.Parameter(torch.full((1,), 0.01))  # a, of take and mix
            self.beta = nn.Parameter(torch.full((1,), 0.01))  # b, of give
            self.adjust_initial_weights()

    @torch.no_grad()
    def adjust_initial_weights(self) -> None:
        """Set W to 0."""
        if self.dynamic:
            self.dynamic_take.weight.zero_()
            self.dynamic_write.weight.zero_()

    def repeated_weights(self, frozen: bool = False) -> int:
        # every stream meets W, where a token meets other Linears once
        return (self.streams - 1) * count_weights(self, frozen)

    def expand(self, x: Tensor) -> Tensor:
        # a view: until the first write all streams are the embedding
        return x.unsqueeze(-2).expand(-1, -1, self.streams, -1)

    def collapse(self, stream: Tensor) -> Tensor:
        return stream.mean(-2)

    def read(self, stream: Tensor) -> Tensor:
        take = self.take[:, None]  # (streams, 1)
        if self.dynamic:
            take = take + self.alpha * torch.tanh(self.dynamic_take(normalize_streams(stream)))
        return self.norm((take * stream).sum(-2))

    def write(self, stream: Tensor, y: Tensor) -> Tensor:
        give, mix = self.give, self.mix.view(self.streams, -1).T  # (streams,), (from, to)
        if self.dynamic:
            dynamic = torch.tanh(self.dynamic_write(normalize_streams(stream)))  # (B, T, from, to + 1)
            give, mix = give + self.beta * dynamic[..., -1], mix + self.alpha * dynamic[..., :-1]
        written = give[..., None] * self.dropout(y).unsqueeze(-2)  # (B, T, to, width)
        for coefficients, source in zip(mix.unbind(-2), stream.unbind(-2), strict=True):
            written = written + coefficients[..., None] * source.unsqueeze(-2)
        return written


def normalize_streams(stream: Tensor) -> Tensor:
    """Divide each stream by its own root mean square."""
    return F.rms_norm(stream, stream.shape[-1:], eps=1e-6)
