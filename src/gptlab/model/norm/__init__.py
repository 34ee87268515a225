"""What keeps the size of activations in hand."""

from torch import Tensor, nn


class Norm(nn.Module):
    """The slot's contract: __init__(width, layer, *, knobs)."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to the same."""
        raise NotImplementedError
