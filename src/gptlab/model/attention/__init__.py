"""Attention: the part that mixes positions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from gptlab.model.forward_pass import ForwardPass
from gptlab.model.kv_cache import LayerCache
from gptlab.model.shape import Shape

if TYPE_CHECKING:
    from gptlab.model.position import Position


class Attention(nn.Module):
    """Contract of the slot: __init__(shape, layer, *, knobs); what writes into the residual stream is called `out`.

    supports             hooks of the position that it can apply, or does well without: embed, rotate, bias
    scales_with_head     whether scores between wider heads keep their size under shape.score_factor: since they are
                         multiplied by it, or since a norm forgets what scores are multiplied by
    supports_documents   whether a document in a row that others share is read as it is alone (model/documents.py)
    """

    supports: frozenset[str] = frozenset({"embed", "rotate", "bias"})
    scales_with_head: bool = False
    supports_documents: bool = False

    def forward(self, x: Tensor, forward_pass: ForwardPass, cache: LayerCache | None = None) -> Tensor:
        """Map (B, T, width) to (B, T, width)."""
        raise NotImplementedError

    def check_compatible(self, position: "Position", earlier: Sequence["Attention"]) -> None:
        """Raise ValueError where the position or an attention of an earlier layer does not fit. Called once."""
        # both sides are sets of hooks: what is not applied would silently be left out
        unsupported = sorted(position.provides - self.supports)
        if unsupported:
            names, hooks = (type(position).__name__, type(self).__name__), " and ".join(unsupported)
            # nope asks for nothing, so that every attention takes it
            others = "position=rope or nope" if "rotate" in self.supports else "position=nope"
            raise ValueError(
                f"position ({names[0]}) works by {hooks}, which attention ({names[1]}) cannot honour; try {others}"
            )

    def new_cache(self, batch: int, length: int, like: Tensor) -> LayerCache | None:
        """Return an empty cache for up to `length` entries; None if it reads another layer's."""
        raise NotImplementedError

    def pair_flops(self) -> int:
        """Return the FLOPs of one visible (query, key) pair over all heads, without Linears."""
        raise NotImplementedError

    def pairs(self, length: int) -> int:
        """Count the visible pairs in a sequence of this length."""
        # causal: each query sees itself and all before it
        return length * (length + 1) // 2

    def flops(self, length: int) -> int:
        """Return the matmul FLOPs of mixing the positions of one sequence, without Linears."""
        return self.pairs(length) * self.pair_flops()


def choose_scale(shape: Shape, width: int | None = None) -> float | None:
    """Return the scale of scores over `width` features, those of a head where it is None.

    None leaves it to `attend`: 1 / sqrt(width), which is what it is unless a parametrization has set the shape's base.
    """
    return None if shape.score_factor == 1 else shape.score_factor * (width or shape.head) ** -0.5
