"""Positional encodings.

One module per decoder with three hooks (`embed`, `rotate`, `bias`); the base class implements none of them, which is
NoPE.
"""

from torch import Tensor, nn

from gptlab.model.shape import Shape


class Position(nn.Module):
    """Contract of the slot. Positions are (B|1, T), absolute; -1 is padding and may be given any finite value.

    provides  hooks that a variant implements; an attention that does not support one refuses
    length    how many positions a variant knows, from 0; None is any number
    """

    provides: frozenset[str] = frozenset()
    length: int | None = None

    def __init__(self, shape: Shape) -> None:
        super().__init__()

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """Return the embeddings (B, T, width) with their positions added."""
        return x

    def rotate(self, q: Tensor, k: Tensor, positions: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Rotate q (B, T, H, D) and k (B, T, K, D) along the last axis, whatever its width."""
        # as they came: a subclass overrides only the hooks that it provides
        return q, k

    def bias(self, query_positions: Tensor, key_positions: Tensor, layer: int) -> Tensor | None:
        """Return the bias of the scaled scores, (B|1, H, T, S), for positions (B|1, T) and (B|1, S).

        None is nothing.
        """
        return None

    def pair_weights(self) -> int:
        """Count the weights of its Linears that pairs of positions meet, once for all rows of a batch.

        They are no part of what a token costs.
        """
        return 0
