"""A learned bias for each distance and head, far distances in common buckets (T5, Raffel 2019, arXiv:1910.10683).

    bias = table[bucket(query - key)]

Half of the buckets are single distances, the other half grow as a geometric series up to `far`, beyond which all are
one. One table serves all layers, as in T5. Departure: T5 does not scale scores by 1 / sqrt(head), ours do. Only the
plain attention kernel learns a bias, so this trains without a fused one.
"""

import math

import torch
from torch import Tensor, nn

from gptlab.model.position import Position
from gptlab.model.shape import Shape


class T5Relative(Position):
    """Learned relative biases.

    buckets  how many distances are told apart
    far      distance from which all are one bucket
    """

    provides = frozenset({"bias"})

    def __init__(self, shape: Shape, *, buckets: int = 32, far: int = 128) -> None:
        super().__init__(shape)
        if buckets < 2 or buckets % 2:
            raise ValueError(f"buckets={buckets} is not an even number > 0; try 32")
        if far <= buckets // 2:
            raise ValueError(f"far={far} is not beyond the {buckets // 2} single distances; try {4 * buckets}")
        self.buckets, self.far = buckets, far
        self.table = nn.Embedding(buckets, shape.heads)

    def bias(self, query_positions: Tensor, key_positions: Tensor, layer: int) -> Tensor:
        distance = (query_positions[:, :, None] - key_positions[:, None, :]).clamp(min=0)
        return self.table(self.find_buckets(distance)).permute(0, 3, 1, 2)  # (B|1, H, T, S)

    def find_buckets(self, distance: Tensor) -> Tensor:
        """Return the bucket of each distance, any shape, from 0."""
        single = self.buckets // 2
        # 0 at the last single distance, 1 at `far`; between them buckets are as many, evenly in the logarithm
        octaves = torch.log(distance.clamp(min=1).float() / single) / math.log(self.far / single)
        far_bucket = single + (octaves * (self.buckets - single)).long()
        return torch.where(distance < single, distance, far_bucket.clamp(max=self.buckets - 1))
