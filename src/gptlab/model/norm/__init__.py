"""Normalization layers."""

from torch import Tensor, nn


class Norm(nn.Module):
    """Contract of the slot: __init__(width, layer, *, knobs).

    follows_width  whether it computes from the width beside what is normalized, for activations that shrink with it
    """

    follows_width: bool = False

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., width) to the same."""
        raise NotImplementedError
