"""What enters the decoder for a token: its row of the decoder's table, and what a choice adds to it.

The base class adds nothing, which is every GPT's embedding.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.model.kv_cache import TokenCache
from gptlab.model.shape import Shape


class Embedding(nn.Module):
    """Contract of the slot: __init__(shape, *, knobs).

    The table is the decoder's, since a head may be tied to it. Positions, a norm and a scale come after.

    looks_back  tokens before each that a choice reads, which decoding keeps in a cache
    """

    looks_back: int = 0

    def __init__(self, shape: Shape) -> None:
        super().__init__()

    def forward(self, table: nn.Embedding, tokens: Tensor, positions: Tensor, cache: TokenCache | None) -> Tensor:
        """Return (B, T, width) for tokens (B, T) at positions (B|1, T), -1 for padding, which continue the cache."""
        return table(tokens)

    def new_cache(self, batch: int, like: Tensor) -> TokenCache | None:
        """Return an empty cache on the device of `like`; None where no token before is read."""
        return TokenCache(batch, self.looks_back, like) if self.looks_back else None


def join_previous(tokens: Tensor, positions: Tensor, cache: TokenCache | None) -> tuple[Tensor, Tensor]:
    """Return tokens with the one before in front, (B, T + 1), and whether each of (B, T) has one before it, bool.

    Nothing stands before position 0, where a row or a document begins. What was never read is token 0 in front.
    """
    joined = F.pad(tokens, (1, 0), value=-1) if cache is None else cache.update(tokens)
    has_previous = (joined[:, :-1] >= 0) & (positions > 0)
    return joined.clamp(min=0), has_previous
