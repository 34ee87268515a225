"""Block floating point, MSFP (Darvish Rouhani 2020, NeurIPS): integers that share an exponent.

    E = floor(log2 max |x|) + 1        x = s 2^E M / 2^m, m = w - 1, M = min(round(|x| 2^m / 2^E), 2^m - 1)

Ties to even. A value above (1 - 2^-m) 2^E saturates; a block of zeros stays that.
"""

from torch import Tensor

from gptlab.weights.format import Format, Ste, refuse_outside
from gptlab.weights.format_bits import floor_log2, to_compute_dtype
from gptlab.weights.format_blocks import compute_scales, count_shared_bits, expand_blocks, join_blocks, split_blocks


class BlockFp(Format):
    """Block floating point.

    width           bits of a value, its sign included
    exponent_width  bits of the shared exponent
    block           values along the last axis that share it
    ste             of the gradient, as in Format
    """

    def __init__(self, *, width: int = 8, exponent_width: int = 8, block: int = 16, ste: Ste = "identity") -> None:
        super().__init__(ste=ste)
        refuse_outside("width", width, 2, 25)
        refuse_outside("exponent_width", exponent_width, 2, 8)
        refuse_outside("block", block, 1, 65536)
        self.width, self.exponent_width, self.block = width, exponent_width, block
        self.digits = width - 2  # of M 2 / 2^m

    def compute_scales(self, largest: Tensor) -> Tensor:
        """Return 2^(E - 1) of each block, from its largest magnitude."""
        return compute_scales(largest, floor_log2, self.exponent_width)

    def quantize(self, x: Tensor) -> Tensor:
        blocks, largest = split_blocks(to_compute_dtype(x), self.block)
        scale, largest_code = self.compute_scales(largest), 2 ** (self.width - 1) - 1
        # blocks / scale is in (-2, 2), so M = 2^digits of it has width - 1 bits
        codes = (blocks / scale).mul_(2.0**self.digits).round_().clamp_(-largest_code, largest_code)
        return join_blocks(codes.mul_(2.0**-self.digits).mul_(scale), x)

    def limits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        _, largest = split_blocks(to_compute_dtype(x), self.block)
        high = expand_blocks(self.compute_scales(largest) * (2 - 2.0**-self.digits), self.block, x)
        return -high, high

    def bits(self, features: int) -> float:
        return self.width + count_shared_bits(self.exponent_width, self.block, features)
