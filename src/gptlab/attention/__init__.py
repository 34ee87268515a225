"""What mixes positions."""

from torch import Tensor, nn

from gptlab.cache import Memory
from gptlab.flow import Flow


class Attention(nn.Module):
    """The slot's contract: __init__(shape, layer, *, knobs); what writes into the residual stream is called `out`.

    `honours` names the doors of the position that it can keep: embed, rotate, bias.
    """

    honours: frozenset[str] = frozenset({"embed", "rotate", "bias"})

    def forward(self, x: Tensor, flow: Flow, memory: Memory | None = None) -> Tensor:
        """(B, T, width) to (B, T, width)."""
        raise NotImplementedError

    def memory(self, batch: int, length: int, like: Tensor) -> Memory | None:
        """What it remembers of up to `length` entries while decoding; None if it reads another layer's."""
        raise NotImplementedError

    def pair_flops(self) -> int:
        """FLOPs of one visible (query, key) pair over all heads, without Linears."""
        raise NotImplementedError

    def pairs(self, length: int) -> int:
        """Visible pairs in a sequence of this length."""
        return length * (length + 1) // 2
