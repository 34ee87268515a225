"""Skips from the first half of the layers to the second, as in a U-net (modded-nanogpt; U-ViT, arXiv:2209.12152).

    layer l of the first half leaves its output s_l; layer L - 1 - l begins with x = x + w s_l

w is learned for each layer of the second half. The middle layer of an odd number has no partner. modded-nanogpt starts
w at 1, beside branches that start at 0; so does this.
"""

import torch
from torch import Tensor, nn

from gptlab.model.residual import Residual

Stream = tuple[Tensor, tuple[Tensor, ...]]


class UNet(Residual):
    """Pre-norm residual with skips; the stream is x and the outputs of the first half's layers.

    skip     w at first; 0 starts as the pre-norm residual
    dropout  of what the branch writes
    """

    carries = "outputs of the first half"
    supports_loops = False

    def __init__(self, shape, layer, branch, norm, *, skip: float = 1.0, dropout: float = 0.0) -> None:
        super().__init__(shape, layer, branch, norm, dropout=dropout)
        self.norm = norm(shape.width, layer)
        # layer l of the second half reads what its mirror image wrote: the last one reads the first
        half, self.partner = shape.layers // 2, shape.layers - 1 - layer
        self.leaves = branch == "mlp" and layer < half
        self.skip = nn.Parameter(torch.full((1,), skip)) if branch == "attention" and self.partner < half else None

    def expand(self, x: Tensor) -> Stream:
        return x, ()

    def collapse(self, stream: Stream) -> Tensor:
        return stream[0]

    def measure(self, stream: Stream) -> Tensor:
        return stream[0]

    def clear(self, stream: Stream) -> Stream:
        return torch.zeros_like(stream[0]), stream[1]

    def read(self, stream: Stream) -> Tensor:
        return self.norm(self.add_skip(stream))

    def write(self, stream: Stream, y: Tensor) -> Stream:
        x = self.add_skip(stream) + self.dropout(y)
        # the list grows by one a layer, so that its index is the layer
        return x, (*stream[1], x) if self.leaves else stream[1]

    def add_skip(self, stream: Stream) -> Tensor:
        """Return x with the partner's output added, before the attention of the second half."""
        return stream[0] if self.skip is None else stream[0] + self.skip * stream[1][self.partner]
