"""Floats with a hidden one and subnormals, as IEEE 754 has them, but with all codes finite: no inf, no NaN.

    x = s 2^E 1.M        m = w - 1 - e, E in 1 - b .. 2^e - 1 - b        and s 2^(1 - b) 0.M below

Rounded to nearest, ties to even; saturates at 2^(2^e - 1 - b) (2 - 2^-m). (8, 4) ends at 480, not at the 448 of OCP's
E4M3, which keeps a code for NaN.
"""

from torch import Tensor

from gptlab.weights.format import Format, Ste, refuse_outside, refuse_unheld
from gptlab.weights.format_bits import round_float, work


class MinifloatIeee(Format):
    """bias: null is 2^(e-1) - 1."""

    def __init__(
        self, *, width: int = 8, exponent_width: int = 4, bias: int | None = None, ste: Ste = "identity"
    ) -> None:
        super().__init__(ste=ste)
        refuse_outside("width", width, 2, 32)
        refuse_outside("exponent_width", exponent_width, 1, min(width - 1, 7))
        bias = (1 << exponent_width - 1) - 1 if bias is None else bias
        self.width, self.digits = width, width - 1 - exponent_width
        self.low, self.high = 1 - bias, 2**exponent_width - 1 - bias
        refuse_unheld("bias", bias, self.low, self.high, self.digits)
        self.top = (2 - 2.0**-self.digits) * 2.0**self.high

    def quantize(self, x: Tensor) -> Tensor:
        return round_float(work(x), self.digits, self.low, self.high, self.top)

    def limits(self, x: Tensor) -> tuple[float, float]:
        return -self.top, self.top

    def bits(self, features: int) -> float:
        return self.width
