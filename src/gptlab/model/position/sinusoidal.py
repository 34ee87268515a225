"""Fixed waves added to the embedding (Vaswani 2017, arXiv:1706.03762).

    x + scale PE(p)        PE(p, 2i) = sin(p / base^(2i / width))        PE(p, 2i + 1) = cos(p / base^(2i / width))

The waves have an RMS of sqrt(1/2), and Vaswani adds them to embeddings that he multiplies by sqrt(width), to about as
much. Here embeddings are not multiplied, so `scale` makes the waves as small instead: sqrt(2) of the embeddings' std,
which init=width_scaled draws at 0.554 / sqrt(width) and init=gpt2 at 0.02. scale=1 is for embeddings of N(0, 1), such
as init=torch with an untied head; beside GPT-2's it makes the waves 35 times as loud as the tokens.
"""

import math

import torch
from torch import Tensor

from gptlab.model.position import Position
from gptlab.model.shape import Shape


class Sinusoidal(Position):
    """Sinusoidal positions, at any position.

    base   the longest wave is 2 pi base
    scale  of the waves; their RMS is scale / sqrt(2)
    """

    provides = frozenset({"embed"})

    def __init__(self, shape: Shape, *, base: float = 10000.0, scale: float = 0.02 * math.sqrt(2)) -> None:
        super().__init__(shape)
        if shape.width % 2:
            raise ValueError(f"position=sinusoidal needs an even model.width, not {shape.width}")
        self.base, self.scale = base, scale

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        # waves of width D / 2 frequencies, the same for all rows where positions are (1, T)
        return x + self.scale * self.compute_waves(positions, x.shape[-1]).to(x.dtype)

    def compute_waves(self, positions: Tensor, width: int) -> Tensor:
        """Return (B|1, T, width), sines and cosines in turn, for positions (B|1, T)."""
        # float64, since an angle of 10^4 in float32 is off by 5e-4; on the fly, so any position has its wave
        pair = torch.arange(0, width, 2, device=positions.device, dtype=torch.float64)
        angle = positions[..., None] * self.base ** (-pair / width)
        return torch.stack([angle.sin(), angle.cos()], -1).flatten(-2)
