"""Hyper-connections on a manifold: streams are mixed by doubly stochastic matrices (mHC, arXiv:2512.24880).

    read  N(sum of pre_i stream_i)        write  stream_i = sum of mix_ij stream_j + post_i y

    pre = sigmoid(a W_pre u + b_pre)
    post = 2 sigmoid(a W_post u + b_post)
    mix = Sinkhorn(exp(a W_mix u + b_mix))

u is the RMS norm of all streams of a token, side by side; Sinkhorn divides rows and columns by their sums in turn.
Mixing then keeps the mean of the streams, whatever the depth, where residual=hyper may blow it up. Four streams and 20
turns are the paper's, and a starts at 0.01, one each for pre, post and mix.
At first W is 0, pre is 1 / streams, post 1, and mix within e^-8 of the identity: the decoder is the pre-norm one. Where
the b begin is ours. Departures: u has no weights of its own; the mean of the streams leaves, which the last norm cannot
tell from their sum.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.model.residual import Residual


class ManifoldHyper(Residual):
    """Manifold-constrained hyper-connections; the stream is (B, T, streams, width).

    streams  how many
    turns    of Sinkhorn's iteration
    dropout  of what the branch writes
    """

    def __init__(self, shape, layer, branch, norm, *, streams: int = 4, turns: int = 20, dropout: float = 0.0) -> None:
        super().__init__(shape, layer, branch, norm, dropout=dropout)
        if streams < 2:
            raise ValueError(f"streams={streams} leaves nothing to mix; give 2 or more, or take residual=pre")
        if turns < 1:
            raise ValueError(f"turns={turns} makes no matrix doubly stochastic; try 20")
        self.streams, self.turns = streams, turns
        self.norm = norm(shape.width, layer)
        self.dynamic_pre = nn.Linear(streams * shape.width, streams, bias=False)
        self.dynamic_write = nn.Linear(streams * shape.width, streams * (1 + streams), bias=False)  # post, then mix
        self.alpha = nn.Parameter(torch.full((3,), 0.01))  # a, of pre, post and mix
        self.pre = nn.Parameter(torch.full((streams,), -math.log(streams - 1)))  # its sigmoid is 1 / streams
        self.post = nn.Parameter(torch.zeros(streams))
        self.mix = nn.Parameter(8 * torch.eye(streams).flatten())
        self.adjust_initial_weights()

    @torch.no_grad()
    def adjust_initial_weights(self) -> None:
        """Set W to 0."""
        self.dynamic_pre.weight.zero_()
        self.dynamic_write.weight.zero_()

    def expand(self, x: Tensor) -> Tensor:
        return x.unsqueeze(-2).expand(-1, -1, self.streams, -1)

    def collapse(self, stream: Tensor) -> Tensor:
        return stream.mean(-2)

    def read(self, stream: Tensor) -> Tensor:
        pre = torch.sigmoid(self.alpha[0] * self.dynamic_pre(normalize_token(stream)) + self.pre)  # (B, T, streams)
        return self.norm((pre[..., None] * stream).sum(-2))

    def write(self, stream: Tensor, y: Tensor) -> Tensor:
        post, mix = self.dynamic_write(normalize_token(stream)).tensor_split([self.streams], -1)
        post = 2 * torch.sigmoid(self.alpha[1] * post + self.post)
        logits = (self.alpha[2] * mix + self.mix).unflatten(-1, (self.streams, self.streams))  # (B, T, to, from)
        mix = make_doubly_stochastic(logits, self.turns)
        written = post[..., None] * self.dropout(y).unsqueeze(-2)  # (B, T, to, width)
        for weights, source in zip(mix.unbind(-1), stream.unbind(-2), strict=True):
            written = written + weights[..., None] * source.unsqueeze(-2)
        return written


def normalize_token(stream: Tensor) -> Tensor:
    """Return all streams of a token side by side, (B, T, streams width), divided by their root mean square."""
    u = stream.flatten(-2)
    return F.rms_norm(u, u.shape[-1:], eps=1e-6)


def make_doubly_stochastic(logits: Tensor, turns: int) -> Tensor:
    """Return matrices (..., n, n) near exp(logits) whose rows and columns sum to 1 (Sinkhorn and Knopp)."""
    matrix = (logits - logits.amax((-2, -1), keepdim=True)).exp()
    for _ in range(turns):
        matrix = matrix / matrix.sum(-1, keepdim=True)
        matrix = matrix / matrix.sum(-2, keepdim=True)
    return matrix
