"""Floats with a hidden one and subnormals, as in IEEE 754, but with all codes finite: no inf, no NaN.

    x = s 2^E 1.M        m = w - 1 - e, E in 1 - b .. 2^e - 1 - b        and s 2^(1 - b) 0.M below

Rounded to nearest, ties to even; saturates at 2^(2^e - 1 - b) (2 - 2^-m). (8, 4) ends at 480, not at the 448 of OCP's
E4M3, which keeps a code for NaN.
"""

from torch import Tensor

from gptlab.weights.format import Format, Ste, refuse_outside, refuse_unrepresentable
from gptlab.weights.format_bits import round_float, to_compute_dtype


class MinifloatIeee(Format):
    """Floats with a hidden one and subnormals.

    width           bits of a value, its sign included
    exponent_width  bits of its exponent
    bias            b; null is 2^(e-1) - 1
    ste             of the gradient, as in Format
    """

    def __init__(
        self, *, width: int = 8, exponent_width: int = 4, bias: int | None = None, ste: Ste = "identity"
    ) -> None:
        super().__init__(ste=ste)
        refuse_outside("width", width, 2, 32)
        refuse_outside("exponent_width", exponent_width, 1, min(width - 1, 7))
        bias = (1 << exponent_width - 1) - 1 if bias is None else bias
        self.width, self.digits = width, width - 1 - exponent_width
        # no code is kept for infinity or NaN: values saturate, so the top exponent holds numbers
        self.low, self.high = 1 - bias, 2**exponent_width - 1 - bias
        refuse_unrepresentable("bias", bias, low=self.low, high=self.high, digits=self.digits)
        self.largest = (2 - 2.0**-self.digits) * 2.0**self.high

    def quantize(self, x: Tensor) -> Tensor:
        return round_float(to_compute_dtype(x), self.digits, low=self.low, high=self.high, largest=self.largest)

    def limits(self, x: Tensor) -> tuple[float, float]:
        return -self.largest, self.largest

    def bits(self, features: int) -> float:
        return self.width
