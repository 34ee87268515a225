"""A learned vector for each position, joined to the embedding instead of added, then mixed back to the width.

    x = W [x, table[position]]

W starts as [I, I], which is position=learned with a table of as many features, so that the two arms are one function at
birth; [I, J] where `features` is not the width, J the identity's first columns. The form is this project's own. Adding
lets both share one width; joining gives positions features of their own, for the price of W: (width + features)
width weights, and the FLOPs of them. W has no bias, since a table can hold it.
"""

import torch
from torch import Tensor, nn

from gptlab.model.position import Position
from gptlab.model.shape import Shape


class LearnedConcat(Position):
    """Learned positions that are concatenated; for positions inside the context only.

    features  width of a position's vector; null is model.width
    """

    provides = frozenset({"embed"})

    def __init__(self, shape: Shape, *, features: int | None = None) -> None:
        super().__init__(shape)
        features = shape.width if features is None else features
        if features < 1:
            raise ValueError(f"features={features} holds no position; give 1 or more, or null for model.width")
        self.length = shape.context
        self.table = nn.Embedding(shape.context, features)
        self.mix = nn.Linear(shape.width + features, shape.width, bias=False)
        # also for a decoder that is built without an Init; `initialize` calls it again, last
        self.adjust_initial_weights()

    @torch.no_grad()
    def adjust_initial_weights(self) -> None:
        """Set W to [I, I]."""
        width, features = self.mix.out_features, self.table.embedding_dim
        self.mix.weight.copy_(torch.cat([torch.eye(width), torch.eye(width, features)], 1))

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        # padding (-1) may take any row; expanded, since positions may be one row for the batch
        position_features = self.table(positions.clamp(min=0)).expand(*x.shape[:-1], -1)
        return self.mix(torch.cat([x, position_features], -1))
