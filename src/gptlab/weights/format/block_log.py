"""Powers of two whose blocks share their bias, as in MASE (DeepWok/mase).

    T = round(log2 max |x|)        b = 2^(w-1) - 1 - T, and then powers of two of that bias with a 0, as in log

So the largest value of a block has the top exponent, and the smallest is 2^(T - 2^(w-1) + 2).
"""

from torch import Tensor

from gptlab.weights.format import Format, Ste, refuse_outside
from gptlab.weights.format_bits import round_log2, round_power, to_compute_dtype
from gptlab.weights.format_blocks import compute_scales, count_shared_bits, expand_blocks, join_blocks, split_blocks


class BlockLog(Format):
    """Powers of two with a shared bias.

    width       bits of a value, its sign included
    bias_width  bits of T
    block       values along the last axis that share it
    ste         of the gradient, as in Format
    """

    def __init__(self, *, width: int = 8, bias_width: int = 8, block: int = 16, ste: Ste = "identity") -> None:
        super().__init__(ste=ste)
        refuse_outside("width", width, 2, 8)
        refuse_outside("bias_width", bias_width, 2, 8)
        refuse_outside("block", block, 1, 65536)
        self.width, self.bias_width, self.block = width, bias_width, block

    def compute_scales(self, largest: Tensor) -> Tensor:
        """Return 2^T of each block, from its largest magnitude."""
        return compute_scales(largest, round_log2, self.bias_width)

    def quantize(self, x: Tensor) -> Tensor:
        blocks, largest = split_blocks(to_compute_dtype(x), self.block)
        scale = self.compute_scales(largest)
        # exponents from 0, the block's largest, down; the lowest code is 0 itself
        return join_blocks(round_power(blocks / scale, 2 - 2 ** (self.width - 1), 0).mul_(scale), x)

    def limits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        _, largest = split_blocks(to_compute_dtype(x), self.block)
        high = expand_blocks(self.compute_scales(largest), self.block, x)
        return -high, high

    def bits(self, features: int) -> float:
        return self.width + count_shared_bits(self.bias_width, self.block, features)
