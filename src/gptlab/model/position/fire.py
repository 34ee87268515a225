"""A learned function of relative distance, so that all lengths look alike to it (FIRE, Li 2023, arXiv:2310.04418).

    bias = f(psi(query - key) / psi(max(L, query)))        psi(x) = log(c x + 1)
    f(u) = W relu(a u + b), one number for each head

The distance is told as a part of how far the query has come, and of L for queries that have not come so far. c > 0 and
L are learned, 0.1 and a quarter of the context at first (the paper: 512 of 2048). Each layer has an f, c and L of its
own. f is computed once for a whole batch, so it is no part of what a token costs. Only the plain attention kernel
learns a bias, so this trains without a fused one. Departure: f adds no constant, which a softmax forgets.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.model.position import Position
from gptlab.model.shape import Shape


class Fire(Position):
    """Functional interpolation of relative positions.

    width      of the hidden layer of f
    threshold  L at first; null is a quarter of the context
    """

    provides = frozenset({"bias"})

    def __init__(self, shape: Shape, *, width: int = 32, threshold: float | None = None) -> None:
        super().__init__(shape)
        if width < 1:
            raise ValueError(f"width={width} leaves no hidden feature; try 32")
        self.first_threshold = max(1.0, shape.context / 4) if threshold is None else float(threshold)
        if self.first_threshold <= 0:
            raise ValueError(f"threshold={threshold} is not positive; null is a quarter of model.context")
        self.weight, self.shift = (nn.Parameter(torch.empty(shape.layers, width)) for _ in range(2))  # a and b
        self.heads = nn.ModuleList(nn.Linear(width, shape.heads, bias=False) for _ in range(shape.layers))
        self.curvature = nn.Parameter(torch.empty(shape.layers))  # c
        self.stretch = nn.Parameter(torch.empty(shape.layers))  # L in first thresholds
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw a and b as torch draws a Linear of one input; set c and L."""
        self.weight.uniform_(-1, 1)
        self.shift.uniform_(-1, 1)
        self.curvature.fill_(0.1)
        self.stretch.fill_(1.0)

    def bias(self, query_positions: Tensor, key_positions: Tensor, layer: int) -> Tensor:
        dtype = self.weight.dtype
        # keys ahead and padding are masked in any case
        distance = (query_positions[:, :, None] - key_positions[:, None, :]).clamp(min=0).to(dtype)  # (B|1, T, S)
        reach = torch.maximum(query_positions.to(dtype), self.first_threshold * self.stretch[layer].abs())
        c = self.curvature[layer].abs()
        part = torch.log1p(c * distance) / (torch.log1p(c * reach) + 1e-6)[..., None]
        hidden = F.relu(part[..., None] * self.weight[layer] + self.shift[layer])  # (B|1, T, S, width)
        return self.heads[layer](hidden).movedim(-1, 1)

    def pair_weights(self) -> int:
        return sum(head.weight.numel() for head in self.heads)  # type: ignore[union-attr,operator,misc]
