"""Powers of two, with a sign (Miyashita 2016, arXiv:1603.01025).

    x = s 2^E        E = round(log2 |x|) in -b .. 2^(w-1) - 1 - b

Nearest in the logarithm: beyond sqrt(2) 2^E it goes up. zero=reserve keeps the lowest code for 0, to which all is
rounded that is nearer to a power below 2^(1-b); zero=none has no 0, and 2^-b in its place.
"""

from typing import Literal

import torch
from torch import Tensor

from gptlab.weights.format import Format, Ste, refuse_outside, refuse_unrepresentable
from gptlab.weights.format_bits import round_power, to_compute_dtype


class Log(Format):
    """Powers of two.

    width  bits of a value, its sign included
    bias   b; null is 2^(w-2) - 1
    zero   reserve or none
    ste    of the gradient, as in Format
    """

    def __init__(
        self,
        *,
        width: int = 8,
        bias: int | None = None,
        zero: Literal["reserve", "none"] = "reserve",
        ste: Ste = "identity",
    ) -> None:
        super().__init__(ste=ste)
        refuse_outside("width", width, 2, 8)
        bias = (1 << width - 2) - 1 if bias is None else bias
        self.width, self.zero = width, zero
        # exponents of the codes; with zero=reserve the lowest code is 0
        self.low, self.high = -bias, 2 ** (width - 1) - 1 - bias
        refuse_unrepresentable("bias", bias, self.low, self.high)

    def quantize(self, x: Tensor) -> Tensor:
        x = to_compute_dtype(x)
        if self.zero == "reserve":
            return round_power(x, self.low + 1, self.high)
        rounded = round_power(x, self.low, self.high)
        # without a code for 0 the smallest power stands in, with the sign of x
        return torch.where(rounded == 0, torch.where(x < 0, -(2.0**self.low), 2.0**self.low), rounded)

    def limits(self, x: Tensor) -> tuple[float, float]:
        return -(2.0**self.high), 2.0**self.high

    def bits(self, features: int) -> float:
        return self.width
