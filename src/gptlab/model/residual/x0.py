"""The embedding again before every layer: x = a x + b x0, then x + f(N x) (Jordan 2024, modded-nanogpt; nanochat).

a and b are learned for each layer, 1 and 0 at first, so that the decoder starts as the pre-norm one (nanochat starts b
at 0.1). x0 is what enters the first layer. Departure: in both sources x0 is normed, which embeddings of RMS 1 beside
branches that start at 0 ask for; here it enters as the init drew it, on the scale of our branches.

With block=parallel and block=input_residual the MLP reads the stream as it was before.
"""

import torch
from torch import Tensor, nn

from gptlab.model.residual import Residual


class X0(Residual):
    """Pre-norm residual with a shortcut from the embedding; the stream is (x, x0).

    keep      a at first
    shortcut  b at first
    dropout   of what the branch writes
    """

    carries = "embedding"

    def __init__(
        self, shape, layer, branch, norm, *, keep: float = 1.0, shortcut: float = 0.0, dropout: float = 0.0
    ) -> None:
        super().__init__(shape, layer, branch, norm, dropout=dropout)
        self.norm = norm(shape.width, layer)
        # one pair a layer: the MLP reads the stream that attention has mixed already
        self.mix = nn.Parameter(torch.tensor([keep, shortcut])) if branch == "attention" else None

    def expand(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x

    def collapse(self, stream: tuple[Tensor, Tensor]) -> Tensor:
        return stream[0]

    def measure(self, stream: tuple[Tensor, Tensor]) -> Tensor:
        return stream[0]

    def clear(self, stream: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(stream[0]), stream[1]

    def read(self, stream: tuple[Tensor, Tensor]) -> Tensor:
        return self.norm(self.mix_in(stream))

    def write(self, stream: tuple[Tensor, Tensor], y: Tensor) -> tuple[Tensor, Tensor]:
        return self.mix_in(stream) + self.dropout(y), stream[1]

    def mix_in(self, stream: tuple[Tensor, Tensor]) -> Tensor:
        """Return a x + b x0 before attention, x before the MLP."""
        return stream[0] if self.mix is None else self.mix[0] * stream[0] + self.mix[1] * stream[1]
