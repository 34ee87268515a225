"""A row for each pair of tokens, from a table that pairs share by a hash:

    x_i = E[t_i] + B[h(t_i, t_(i-1))]        h(a, b) = (36313 a XOR 27191 b) mod (rows - 1)

The last row of B is for tokens that begin a text. Hash, rows (5 a token) and the start at 0 are those of
github.com/KellerJordan/modded-nanogpt (since 2026-01); the sum at the input is that of the Over-Tokenized Transformer
(Huang 2025, arXiv:2501.16975). Departures: modded-nanogpt adds the pair's row before every layer, by a learned factor;
residual=x0 brings the input there again. Nothing crosses the border of a document. No table of signs.
"""

import torch
from torch import Tensor, nn

from gptlab.model.embedding import Embedding, join_previous
from gptlab.model.kv_cache import TokenCache
from gptlab.model.shape import Shape

FACTORS = (36313, 27191)
"""Of a token and of the one before; arbitrary, such that products are spread over 32 bits."""


class BigramEmbedding(Embedding):
    """The token's row and that of its pair with the token before.

    rows_per_token  rows of the table of pairs, in units of the vocabulary
    """

    looks_back = 1

    def __init__(self, shape: Shape, *, rows_per_token: int = 5) -> None:
        super().__init__(shape)
        if rows_per_token < 1:
            raise ValueError(f"embedding.rows_per_token={rows_per_token} is not positive; try 5")
        self.pairs = nn.Embedding(rows_per_token * shape.vocab, shape.width)

    @torch.no_grad()
    def adjust_initial_weights(self) -> None:
        """Start as embedding=token, whatever the init drew."""
        self.pairs.weight.zero_()

    def forward(self, table: nn.Embedding, tokens: Tensor, positions: Tensor, cache: TokenCache | None) -> Tensor:
        joined, has_previous = join_previous(tokens, positions, cache)
        last_row = self.pairs.num_embeddings - 1
        # a table of one row has it for all; remainder by 0 is an error
        # pairs that collide share a row; the last row is for tokens that nothing stands before
        hashed = ((FACTORS[0] * tokens) ^ (FACTORS[1] * joined[:, :-1])) % max(1, last_row)
        return table(tokens) + self.pairs(torch.where(has_previous, hashed, last_row))
