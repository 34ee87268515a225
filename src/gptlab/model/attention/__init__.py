"""What mixes positions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from gptlab.model.forward_pass import ForwardPass
from gptlab.model.kv_cache import LayerCache

if TYPE_CHECKING:
    from gptlab.model.position import Position


class Attention(nn.Module):
    """The slot's contract: __init__(shape, layer, *, knobs); what writes into the residual stream is called `out`.

    `supports` names the hooks of the position that it can keep: embed, rotate, bias.
    """

    supports: frozenset[str] = frozenset({"embed", "rotate", "bias"})

    def forward(self, x: Tensor, forward_pass: ForwardPass, cache: LayerCache | None = None) -> Tensor:
        """(B, T, width) to (B, T, width)."""
        raise NotImplementedError

    def check_compatible(self, position: "Position", earlier: Sequence["Attention"]) -> None:
        """Called once with what stands beside it, the attentions of the layers before included; refuses what does not
        fit."""
        unsupported = sorted(position.provides - self.supports)
        if unsupported:
            names = type(position).__name__, type(self).__name__
            raise ValueError(
                f"position ({names[0]}) works by {unsupported}, which attention ({names[1]}) cannot honour"
            )

    def new_cache(self, batch: int, length: int, like: Tensor) -> LayerCache | None:
        """What it remembers of up to `length` entries while decoding; None if it reads another layer's."""
        raise NotImplementedError

    def pair_flops(self) -> int:
        """FLOPs of one visible (query, key) pair over all heads, without Linears."""
        raise NotImplementedError

    def pairs(self, length: int) -> int:
        """Visible pairs in a sequence of this length."""
        return length * (length + 1) // 2
