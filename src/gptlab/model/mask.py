"""Attention masks as predicates mask(query_positions, key_positions) -> bool: causal, optionally with a sliding window.

causal              key <= query
window of W keys    0 <= query - key < W; the query's own key is counted (Mistral, arXiv:2310.06825)

Positions are absolute; -1 is padding or an empty cache slot, which no query sees.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Mask:
    """Causal mask over the last `reach` positions, the query's own counted; None sees them all."""

    reach: int | None = None

    def __post_init__(self) -> None:
        if self.reach is not None and self.reach < 1:
            raise ValueError(f"window={self.reach} sees nothing; give a number of keys > 0, or null for all of them")

    def __call__(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        """Return bool (B|1, 1, T, S), true where the query sees the key, for positions (B|1, T) and (B|1, S)."""
        return self.is_visible(query_positions[:, None, :, None], key_positions[:, None, None, :])

    def is_visible(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        """Return the predicate over positions that broadcast; also flex attention's mask_mod."""
        # a key at a negative position is padding
        visible = (key_positions <= query_positions) & (key_positions >= 0)
        return visible if self.reach is None else visible & (query_positions - key_positions < self.reach)

    def is_plain_causal(self, length: int) -> bool:
        """Return whether this mask hides nothing more than a plain causal one in a sequence of this length."""
        return self.reach is None or self.reach >= length

    def pairs(self, length: int) -> int:
        """Count the visible (query, key) pairs in one sequence."""
        reach = length if self.reach is None else min(self.reach, length)
        # a triangle until the window is full, then a band
        return reach * (reach + 1) // 2 + (length - reach) * reach
