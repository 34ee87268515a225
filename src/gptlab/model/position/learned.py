"""One learned vector for each position, added to the embedding (GPT-2, Radford 2019)."""

from torch import Tensor, nn

from gptlab.model.position import Position
from gptlab.model.shape import Shape


class Learned(Position):
    """Learned absolute positions: x + table[position], for positions inside the context only."""

    provides = frozenset({"embed"})

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.length = shape.context
        self.table = nn.Embedding(shape.context, shape.width)

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        # padding (-1) may take any row: no token sees it
        return x + self.table(positions.clamp(min=0))
