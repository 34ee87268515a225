"""A gated share of the token before (Jordan 2024, github.com/KellerJordan/modded-nanogpt, since 2025-09):

    x_i = e_i + l sigmoid(w e_i[:12]) e_(i-1)        e = E[t], and nothing is added where a text begins

l = 0 and w = 0 at first, so that a decoder begins as with embedding=token. Departures: nothing crosses the border of a
document, where the source smears over it; w and l have the learning rate of other weights (0.01 and 5 times there).
"""

import torch
from torch import Tensor, nn

from gptlab.model.embedding import Embedding, join_previous
from gptlab.model.kv_cache import TokenCache
from gptlab.model.shape import Shape


class SmearEmbedding(Embedding):
    """The token's row and a share of the one before.

    features  of the token's row that the gate reads, the first so many
    """

    looks_back = 1

    def __init__(self, shape: Shape, *, features: int = 12) -> None:
        super().__init__(shape)
        if not 1 <= features <= shape.width:
            raise ValueError(f"embedding.features={features} is not in 1 .. model.width={shape.width}; try 12")
        self.gate = nn.Linear(features, 1, bias=False)
        self.share = nn.Parameter(torch.zeros(1))

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.share)

    @torch.no_grad()
    def adjust_initial_weights(self) -> None:
        """Start the gate half open, whatever the init drew."""
        self.gate.weight.zero_()

    def forward(self, table: nn.Embedding, tokens: Tensor, positions: Tensor, cache: TokenCache | None) -> Tensor:
        joined, has_previous = join_previous(tokens, positions, cache)
        rows = table(joined)  # (B, T + 1, width)
        x, previous = rows[:, 1:], rows[:, :-1]
        share = self.share * torch.sigmoid(self.gate(x[..., : self.gate.in_features]))  # (B, T, 1)
        return x + share * has_previous[..., None] * previous
