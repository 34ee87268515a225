"""Powers of two that share their bias, as MASE (DeepWok/mase) has them.

    T = round(log2 max |x|)        b = 2^(w-1) - 1 - T, and then powers of two of that bias with a 0, as in log

So the largest value of a block has the top exponent, and the smallest is 2^(T - 2^(w-1) + 2).
"""

from torch import Tensor

from gptlab.weights.format import Format, Ste, refuse_outside
from gptlab.weights.format_bits import round_log2, round_power, work
from gptlab.weights.format_blocks import cut, join, scales, shared_bits, spread


class BlockLog(Format):
    """width: of a value, the sign's bit counted. bias_width: bits of T. block: values along the last axis."""

    def __init__(self, *, width: int = 8, bias_width: int = 8, block: int = 16, ste: Ste = "identity") -> None:
        super().__init__(ste=ste)
        refuse_outside("width", width, 2, 8)
        refuse_outside("bias_width", bias_width, 2, 8)
        refuse_outside("block", block, 1, 65536)
        self.width, self.bias_width, self.block = width, bias_width, block

    def scales(self, top: Tensor) -> Tensor:
        """2^T of each block, from its largest magnitude."""
        return scales(top, round_log2, self.bias_width)

    def quantize(self, x: Tensor) -> Tensor:
        rows, top = cut(work(x), self.block)
        scale = self.scales(top)
        return join(round_power(rows / scale, 2 - 2 ** (self.width - 1), 0).mul_(scale), x)

    def limits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        _, top = cut(work(x), self.block)
        high = spread(self.scales(top), self.block, x)
        return -high, high

    def bits(self, features: int) -> float:
        return self.width + shared_bits(self.bias_width, self.block, features)
