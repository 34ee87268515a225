"""Normalization layers."""

from torch import Tensor, nn


class Norm(nn.Module):
    """Contract of the slot: __init__(width, layer, *, knobs)."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., width) to the same."""
        raise NotImplementedError
