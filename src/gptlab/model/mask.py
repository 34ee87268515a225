"""Who may look at whom: frozen predicates of two absolute positions. Position -1 is padding or an empty cache slot.

causal              key <= query
window of W keys    0 <= query - key < W; the query's own key is counted (Mistral, arXiv:2310.06825)
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Mask:
    """Causal sight of the last `reach` positions, the query's own counted; None sees them all."""

    reach: int | None = None

    def __post_init__(self) -> None:
        if self.reach is not None and self.reach < 1:
            raise ValueError(f"window={self.reach} sees nothing; give a number of keys > 0, or null for all of them")

    def __call__(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        """Positions (B|1, T), (B|1, S) to bool (B|1, 1, T, S): true where the query sees the key."""
        return self.is_visible(query_positions[:, None, :, None], key_positions[:, None, None, :])

    def is_visible(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        """The predicate itself, over positions that broadcast; also flex attention's mask_mod."""
        visible = (key_positions <= query_positions) & (key_positions >= 0)
        return visible if self.reach is None else visible & (query_positions - key_positions < self.reach)

    def is_plain_causal(self, length: int) -> bool:
        """True if a sequence of this length is seen as by a plain causal mask."""
        return self.reach is None or self.reach >= length

    def pairs(self, length: int) -> int:
        """Visible (query, key) pairs in one sequence."""
        reach = length if self.reach is None else min(self.reach, length)
        return reach * (reach + 1) // 2 + (length - reach) * reach
