"""Fixed waves added to the embedding (Vaswani 2017, arXiv:1706.03762).

PE(at, 2i) = sin(at / base^(2i / width))        PE(at, 2i + 1) = cos(at / base^(2i / width))
"""

import torch
from torch import Tensor

from gptlab.model.position import Position
from gptlab.model.shape import Shape


class Sinusoidal(Position):
    """x + scale PE(at), at any position. The original adds to embeddings times sqrt(width); `scale` plays that part."""

    provides = frozenset({"embed"})

    def __init__(self, shape: Shape, *, base: float = 10000.0, scale: float = 1.0) -> None:
        super().__init__(shape)
        if shape.width % 2:
            raise ValueError(f"position=sinusoidal needs an even model.width, not {shape.width}")
        self.base, self.scale = base, scale

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        return x + self.scale * self.waves(positions, x.shape[-1]).to(x.dtype)

    def waves(self, positions: Tensor, width: int) -> Tensor:
        """Positions (B|1, T) to (B|1, T, width), sines and cosines in turn."""
        pair = torch.arange(0, width, 2, device=positions.device, dtype=torch.float64)
        angle = positions[..., None] * self.base ** (-pair / width)
        return torch.stack([angle.sin(), angle.cos()], -1).flatten(-2)
