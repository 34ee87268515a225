"""Floats without a hidden one, as in MASE (DeepWok/mase): all codes finite, no inf, no NaN.

    x = s 2^E M / 2^m        m = w - 1 - e, E in -b .. 2^e - 1 - b, M in 0 .. 2^m - 1

Rounded to nearest, ties to even, with a carry into the next binade; saturates. Where two codes have one value, E is
that with M >= 2^(m-1): so these are the floats of one digit less, whose largest is all ones.
"""

from torch import Tensor

from gptlab.weights.format import Format, Ste, refuse_outside, refuse_unrepresentable
from gptlab.weights.format_bits import round_float, to_compute_dtype


class MinifloatDenorm(Format):
    """Floats without a hidden one.

    width           bits of a value, its sign included
    exponent_width  bits of its exponent
    bias            b; null is 2^(e-1) - 1
    ste             of the gradient, as in Format
    """

    def __init__(
        self, *, width: int = 8, exponent_width: int = 4, bias: int | None = None, ste: Ste = "identity"
    ) -> None:
        super().__init__(ste=ste)
        refuse_outside("width", width, 3, 32)
        refuse_outside("exponent_width", exponent_width, 1, min(width - 2, 7))
        bias = (1 << exponent_width - 1) - 1 if bias is None else bias
        self.width, self.digits = width, width - 2 - exponent_width
        self.low, self.high = -bias - 1, 2**exponent_width - 2 - bias  # of M / 2^m in [1/2, 1)
        refuse_unrepresentable("bias", bias, low=self.low, high=self.high, digits=self.digits)
        self.largest = (1 - 2.0 ** (-1 - self.digits)) * 2.0 ** (self.high + 1)

    def quantize(self, x: Tensor) -> Tensor:
        return round_float(to_compute_dtype(x), self.digits, low=self.low, high=self.high, largest=self.largest)

    def limits(self, x: Tensor) -> tuple[float, float]:
        return -self.largest, self.largest

    def bits(self, features: int) -> float:
        return self.width
