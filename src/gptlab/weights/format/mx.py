"""OCP Microscaling (MX v1.0): blocks of small numbers under one power of two, which takes a byte (E8M0).

mxint8       s1.6, -127/64 .. 127/64, with one exponent for each block of 32
mxfp8_e4m3   1-4-3, up to 448, with one exponent for each block of 32
mxfp8_e5m2   1-5-2, up to 57344, with one exponent for each block of 32
mxfp6_e3m2   1-3-2, up to 28, with one exponent for each block of 32
mxfp6_e2m3   1-2-3, up to 7.5, with one exponent for each block of 32
mxfp4        1-2-1, up to 6, with one exponent for each block of 32

    E = floor(log2 max |x|) - emax in -127 .. 127        x = 2^E element(x / 2^E)

Elements have subnormals, are rounded to nearest, ties to even, and saturate. The byte is E + 127, 0 for a block of
zeros, 255 for one that holds NaN or inf, which is NaN as a whole. -128 of int8 is left unused, as by microxcaling.
E by `scale_mode`, as in torchao:

floor   as above, the standard's minimum: what lies above the largest element in the top binade saturates
ceil    one more, unless max |x| is a power of two
rceil   one more where max |x| would saturate
even    one more where max |x|, rounded to the digits of an element, is the next power of two
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gptlab.weights.format import Format, Ste, refuse_outside
from gptlab.weights.format_bits import exp2, round_float, to_compute_dtype
from gptlab.weights.format_blocks import count_shared_bits, expand_blocks, join_blocks, split_blocks


class Element(NamedTuple):
    """Bits and fraction digits of an element, exponents of its lowest and its top binade, and its largest value."""

    width: int
    digits: int
    low: int
    high: int
    largest: float


ELEMENTS = {
    "int8": Element(width=8, digits=6, low=0, high=0, largest=127 / 64),
    "e4m3": Element(width=8, digits=3, low=-6, high=8, largest=448),
    "e5m2": Element(width=8, digits=2, low=-14, high=15, largest=57344),
    "e3m2": Element(width=6, digits=2, low=-2, high=4, largest=28),
    "e2m3": Element(width=6, digits=3, low=0, high=2, largest=7.5),
    "e2m1": Element(width=4, digits=1, low=0, high=2, largest=6),
}


class Microscaling(Format):
    """Microscaling formats.

    element     number format of a value
    block       values along the last axis that share a scale
    scale_mode  floor, ceil, rceil or even
    ste         of the gradient, as in Format
    """

    def __init__(
        self,
        *,
        element: Literal["int8", "e4m3", "e5m2", "e3m2", "e2m3", "e2m1"] = "int8",
        block: int = 32,
        scale_mode: Literal["floor", "ceil", "rceil", "even"] = "floor",
        ste: Ste = "identity",
    ) -> None:
        super().__init__(ste=ste)
        refuse_outside("block", block, 1, 65536)
        self.name, self.element, self.block, self.scale_mode = element, ELEMENTS[element], block, scale_mode

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the elements (..., N, block) of x (..., D), and the byte of each block's scale (..., N, 1)."""
        blocks, largest = split_blocks(to_compute_dtype(x), self.block)
        # E8M0 has no zero and no sign: -127 stands for a block of zeros
        exponent = torch.where(largest > 0, self.compute_exponents(largest), -127).clamp(-127, 127)
        byte = torch.where(largest.isfinite(), exponent + 127, 255).to(torch.uint8)
        scaled, element = blocks / exp2(exponent, blocks.dtype), self.element
        elements = round_float(scaled, element.digits, low=element.low, high=element.high, largest=element.largest)
        return elements, byte

    @staticmethod
    def decode_scale(byte: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the power of two of a scale's byte."""
        return exp2(byte.int() - 127, dtype).where(byte < 255, torch.nan)

    def compute_exponents(self, largest: Tensor) -> Tensor:
        """Return E of each block, not yet clamped, from its largest magnitude."""
        mantissa, exponent = torch.frexp(largest)  # the mantissa is in [1/2, 1)
        scale = exponent - 1 - self.element.high
        if self.scale_mode == "ceil":
            return scale + (mantissa > 0.5)  # a mantissa of 1/2 is a power of two
        if self.scale_mode == "rceil":
            return scale + (mantissa > self.element.largest / 2 ** (self.element.high + 1))
        if self.scale_mode == "even":
            # half a step below 1 and more: rounded to an element's digits that is the next power of two
            return scale + (mantissa >= 1 - 2.0 ** (-2 - self.element.digits))
        return scale

    def quantize(self, x: Tensor) -> Tensor:
        elements, byte = self.encode(x)
        return join_blocks(elements.mul_(self.decode_scale(byte, elements.dtype)), x)

    def limits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        elements, byte = self.encode(x)
        high = expand_blocks(self.decode_scale(byte, elements.dtype) * self.element.largest, self.block, x)
        return -high, high

    def bits(self, features: int) -> float:
        return self.element.width + count_shared_bits(8, self.block, features)

    def pack(self, weight: Tensor) -> dict[str, Tensor]:
        """Return a byte a value, in 64ths, and a byte a block. Floats of 8, 6 and 4 bits have no packed storage."""
        if self.name != "int8":
            raise ValueError(f"format.element={self.name} has no packed storage here; int8 has")
        elements, byte = self.encode(weight)
        # elements (out, N, block) are whole 64ths; NaN becomes 0, and its byte of 255 makes it NaN again
        codes = (elements * 64).nan_to_num().to(torch.int8).flatten(-2)[..., : weight.shape[-1]]
        return {"codes": codes.contiguous(), "scale": byte.squeeze(-1)}

    def unpack(self, parts: dict[str, Tensor], dtype: torch.dtype) -> Tensor:
        blocks, _ = split_blocks(parts["codes"].float() / 64, self.block)
        scale = self.decode_scale(parts["scale"][..., None], blocks.dtype)  # (out, N, 1)
        return join_blocks(blocks.mul_(scale), parts["codes"]).to(dtype)
