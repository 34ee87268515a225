"""After each layer an average of all layers' outputs so far, by learned weights (DenseFormer, arXiv:2402.02622).

    x_l = layer_l(y_(l-1))        y_l = sum over j <= l of a_lj x_j,        x_0 = y_0 the embedding

a_ll is 1 at first and the others 0, so that the decoder starts as the pre-norm one. The paper's dilation and period of
1: every layer averages over all before it.
"""

import torch
from torch import Tensor, nn

from gptlab.model.residual import Residual

Stream = tuple[Tensor, tuple[Tensor, ...]]


class DenseFormer(Residual):
    """Pre-norm residual with depth-weighted averages; the stream is y and all x_j.

    dropout  of what the branch writes
    """

    carries = "outputs of all layers"
    supports_loops = False

    def __init__(self, shape, layer, branch, norm, *, dropout: float = 0.0) -> None:
        super().__init__(shape, layer, branch, norm, dropout=dropout)
        self.norm = norm(shape.width, layer)
        # layer + 2 outputs: the embedding, the layers before, and this one, which alone counts at first
        self.average = nn.Parameter(torch.eye(layer + 2)[-1].clone()) if branch == "mlp" else None

    def expand(self, x: Tensor) -> Stream:
        return x, (x,)

    def collapse(self, stream: Stream) -> Tensor:
        return stream[0]

    def measure(self, stream: Stream) -> Tensor:
        return stream[0]

    def clear(self, stream: Stream) -> Stream:
        return torch.zeros_like(stream[0]), stream[1]

    def read(self, stream: Stream) -> Tensor:
        return self.norm(stream[0])

    def write(self, stream: Stream, y: Tensor) -> Stream:
        x = stream[0] + self.dropout(y)
        if self.average is None:
            return x, stream[1]
        outputs = (*stream[1], x)
        # summed one by one: to stack all outputs would write them out once more in every layer
        y = self.average[0] * outputs[0]
        for weight, output in zip(self.average[1:].unbind(), outputs[1:], strict=True):
            y = y + weight * output
        return y, outputs
