"""Where tokens stand: one object for the whole decoder, with three doors that are all shut here (which is NoPE)."""

from torch import Tensor, nn

from gptlab.model.shape import Shape


class Position(nn.Module):
    """The slot's contract. A variant names its hooks in `provides`; what an attention cannot honour is refused.

    Positions are (B|1, T), absolute; -1 is padding and may be given any finite value. `length` is how many of them
    a variant knows, from 0; None is any number.
    """

    provides: frozenset[str] = frozenset()
    length: int | None = None

    def __init__(self, shape: Shape) -> None:
        super().__init__()

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """(B, T, width) to the same: what is added to the token embeddings."""
        return x

    def rotate(self, q: Tensor, k: Tensor, positions: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """(B, T, H, D) and (B, T, K, D) to the same: turns the last axis, whatever its width."""
        return q, k

    def bias(self, query_positions: Tensor, key_positions: Tensor, layer: int) -> Tensor | None:
        """(B|1, T), (B|1, S) to (B|1, H, T, S), added to the scaled scores."""
        return None
