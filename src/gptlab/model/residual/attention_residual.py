"""Each branch reads a softmax over the outputs of all branches before it (Attention Residuals, arXiv:2603.15031).

    v_0 the embedding, v_i the output of branch i        x_l = sum over i < l of a_i v_i
    a = softmax over i of w_l . RMS(v_i)                 branch l gives v_l = f(N x_l)

w_l is learned for each branch, and one more for the readout; 0 at first, so that a branch begins by reading the mean of
all before it. This is the paper's full form, not its blocks. A norm before the branch forgets that a mean is smaller
than the sum of a plain residual.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.model.residual import Residual

Stream = tuple[Tensor, ...]


class AttentionResidual(Residual):
    """Residual by attention over depth; the stream is the embedding and the outputs of all branches.

    dropout  of what the branch writes
    """

    carries = "outputs of all branches"
    supports_loops = False

    def __init__(self, shape, layer, branch, norm, *, dropout: float = 0.0) -> None:
        super().__init__(shape, layer, branch, norm, dropout=dropout)
        self.norm = norm(shape.width, layer)
        is_first = branch == "attention" and layer == 0  # has the embedding alone to read
        # at 0 all outputs weigh alike: the stream is their mean at birth
        self.query = None if is_first else nn.Parameter(torch.zeros(shape.width))
        is_last = branch == "mlp" and layer == shape.layers - 1
        self.last_query = nn.Parameter(torch.zeros(shape.width)) if is_last else None

    def expand(self, x: Tensor) -> Stream:
        return (x,)

    def collapse(self, stream: Stream) -> Tensor:
        assert self.last_query is not None
        return mix_outputs(stream, self.last_query)

    def measure(self, stream: Stream) -> Tensor:
        return torch.stack(stream).mean(0)

    def clear(self, stream: Stream) -> Stream:
        return stream[:0]

    def read(self, stream: Stream) -> Tensor:
        return self.norm(stream[0] if self.query is None else mix_outputs(stream, self.query))

    def write(self, stream: Stream, y: Tensor) -> Stream:
        return (*stream, self.dropout(y))


def mix_outputs(outputs: Stream, query: Tensor) -> Tensor:
    """Return the mean of outputs (B, T, width) weighed by the softmax of query . RMS(output), query (width,)."""
    # the key of an output is the output itself, normed: loud layers get no more weight for that
    scores = [(F.rms_norm(v, v.shape[-1:], eps=1e-6) * query).sum(-1, keepdim=True) for v in outputs]
    weights = torch.cat(scores, -1).softmax(-1)  # (B, T, outputs)
    # a sum in turn: stacked, the outputs of all layers would lie in memory twice
    mixed = torch.zeros_like(outputs[0])
    for weight, v in zip(weights.split(1, -1), outputs, strict=True):
        mixed = mixed + weight * v
    return mixed
