"""Fixed point: whole multiples of 2^-f, w bits wide.

    q = clamp(round(x 2^f), low, high) / 2^f
    low, high = -2^(w-1), 2^(w-1) - 1        or, unsigned, 0, 2^w - 1

half_even rounds ties to even, floor cuts off (both as in MASE, DeepWok/mase).
"""

from typing import Literal

from torch import Tensor

from gptlab.compress.binades import work
from gptlab.compress.format import Format, Ste, refuse_outside


class Integer(Format):
    """width: in bits, the sign's counted. fraction_width: bits after the point, also below 0 or above width; null is
    half the width."""

    def __init__(
        self,
        *,
        width: int = 8,
        fraction_width: int | None = None,
        signed: bool = True,
        rounding: Literal["half_even", "floor"] = "half_even",
        ste: Ste = "identity",
    ) -> None:
        super().__init__(ste=ste)
        refuse_outside("width", width, 1 + signed, 32)
        self.width, self.rounding = width, rounding
        self.fraction_width = width // 2 if fraction_width is None else fraction_width
        refuse_outside("fraction_width", self.fraction_width, width - 127, 126)
        self.low = -(2 ** (width - 1)) if signed else 0
        self.high = 2 ** (width - signed) - 1

    def quantize(self, x: Tensor) -> Tensor:
        x = work(x, wide=self.width > 24) * 2.0**self.fraction_width  # 2^31 - 1 is no float32
        x = x.round_() if self.rounding == "half_even" else x.floor_()
        return x.clamp_(self.low, self.high).mul_(2.0**-self.fraction_width)

    def limits(self, x: Tensor) -> tuple[float, float]:
        return self.low * 2.0**-self.fraction_width, self.high * 2.0**-self.fraction_width

    def bits(self, features: int) -> float:
        return self.width
