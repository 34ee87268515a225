"""Minifloats whose blocks share their exponent's bias (Fox 2021, ICLR, "A Block Minifloat Representation").

    S = floor(log2 max |x|)        b = 2^e - 1 - S, and then floats with subnormals of that bias, as in minifloat_ieee

So the largest value of a block has the top exponent. (That the block is aligned to its maximum is our reading of the
paper's aim.) Ties to even, saturating at 2^S (2 - 2^-m).
"""

from torch import Tensor

from gptlab.weights.format import Format, Ste, refuse_outside, refuse_unrepresentable
from gptlab.weights.format_bits import floor_log2, round_float, to_compute_dtype
from gptlab.weights.format_blocks import compute_scales, count_shared_bits, expand_blocks, join_blocks, split_blocks


class BlockMinifloat(Format):
    """Minifloats with a shared bias.

    width           bits of a value, its sign included
    exponent_width  bits of its exponent
    bias_width      bits of S
    block           values along the last axis that share it
    ste             of the gradient, as in Format
    """

    def __init__(
        self,
        *,
        width: int = 8,
        exponent_width: int = 4,
        bias_width: int = 8,
        block: int = 16,
        ste: Ste = "identity",
    ) -> None:
        super().__init__(ste=ste)
        refuse_outside("width", width, 2, 32)
        refuse_outside("exponent_width", exponent_width, 1, min(width - 1, 7))
        refuse_outside("bias_width", bias_width, 2, 8)
        refuse_outside("block", block, 1, 65536)
        self.width, self.bias_width, self.block = width, bias_width, block
        self.digits, self.low = width - 1 - exponent_width, 2 - 2**exponent_width  # about S
        refuse_unrepresentable("exponent_width", exponent_width, low=self.low, high=0, digits=self.digits)
        # all ones behind the point, at exponent 0 about S
        self.largest = 2 - 2.0**-self.digits

    def compute_scales(self, largest: Tensor) -> Tensor:
        """Return 2^S of each block, from its largest magnitude."""
        return compute_scales(largest, floor_log2, self.bias_width)

    def quantize(self, x: Tensor) -> Tensor:
        blocks, largest = split_blocks(to_compute_dtype(x), self.block)
        scale = self.compute_scales(largest)
        rounded = round_float(blocks / scale, self.digits, low=self.low, high=0, largest=self.largest)
        return join_blocks(rounded.mul_(scale), x)

    def limits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        _, largest = split_blocks(to_compute_dtype(x), self.block)
        high = expand_blocks(self.compute_scales(largest) * self.largest, self.block, x)
        return -high, high

    def bits(self, features: int) -> float:
        return self.width + count_shared_bits(self.bias_width, self.block, features)
