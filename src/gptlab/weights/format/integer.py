"""Fixed point: whole multiples of 2^-f, w bits wide.

int8  8 bits, with the f of each row that its largest magnitude allows

    q = clamp(round(x 2^f), low, high) / 2^f
    low, high = -2^(w-1), 2^(w-1) - 1        or, unsigned, 0, 2^w - 1

half_even rounds ties to even, floor cuts off (both as in MASE, DeepWok/mase). f is given, or fitted to a magnitude:

    f = w - 1 - ceil(log2 max |x|)

row: of each row of a weight, of each token. tensor: of a weight; of an activation, the largest that was watched, since
the maximum over a sequence would let later tokens change earlier ones. What is fitted to NaN or inf is NaN.
"""

from typing import Literal

import torch
from torch import Tensor

from gptlab.weights.format import Format, Ste, refuse_outside
from gptlab.weights.format_bits import ceil_log2, shift, work

LOW, HIGH = -127, 126
"""Of f, about the width: a float32 holds the bounds and the step."""


class Integer(Format):
    """width: in bits, the sign's counted. fraction_width: bits after the point, also below 0 or above width; null is
    half the width."""

    most: Tensor

    def __init__(
        self,
        *,
        width: int = 8,
        fraction_width: int | Literal["row", "tensor"] | None = None,
        signed: bool = True,
        rounding: Literal["half_even", "floor"] = "half_even",
        ste: Ste = "identity",
    ) -> None:
        super().__init__(ste=ste)
        refuse_outside("width", width, 1 + signed, 32)
        self.width, self.signed, self.rounding = width, signed, rounding
        self.fraction_width = width // 2 if fraction_width is None else fraction_width
        self.watches = fraction_width == "tensor"
        if self.watches:
            self.register_buffer("most", torch.tensor(torch.nan))
        if isinstance(self.fraction_width, int):
            refuse_outside("fraction_width", self.fraction_width, width + LOW, HIGH)
        self.low = -(2 ** (width - 1)) if signed else 0
        self.high = 2 ** (width - signed) - 1

    def fraction(self, x: Tensor) -> tuple[Tensor | int, Tensor | float]:
        """f of each of x, and a 0 that is NaN where it was fitted to no number."""
        if isinstance(self.fraction_width, int):
            return self.fraction_width, 0.0
        if self.fraction_width == "row":
            top = x.abs().amax(-1, keepdim=True)
        else:
            top = self.most if x.dim() > 2 else x.abs().amax()
        return (self.width - self.signed - ceil_log2(top)).clamp(self.width + LOW, HIGH), top * 0

    def quantize(self, x: Tensor) -> Tensor:
        x = work(x, wide=self.width > 24)  # 2^31 - 1 is no float32
        f, zero = self.fraction(x)
        return shift(self.codes(x, f), -f) + zero

    def codes(self, x: Tensor, f: Tensor | int) -> Tensor:
        """(..., D) to whole numbers."""
        x = shift(x, f)
        return (x.round() if self.rounding == "half_even" else x.floor()).clamp(self.low, self.high)

    def limits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        f, _ = self.fraction(work(x))
        return shift(work(x).new_tensor(float(self.low)), -f), shift(work(x).new_tensor(float(self.high)), -f)

    def watch(self, x: Tensor) -> None:
        if self.watches:
            self.most.copy_(torch.fmax(self.most, x.detach().abs().amax()))

    def bits(self, features: int) -> float:
        return self.width + (8 / features if self.fraction_width == "row" else 0)

    def pack(self, weight: Tensor) -> dict[str, Tensor]:
        """A byte a value; f in a byte, for all or for each row."""
        if self.width > 8 or not self.signed:
            raise ValueError(f"format.width={self.width} fits no signed byte; try width=8, signed=true")
        weight = work(weight)
        f, zero = self.fraction(weight)
        if not (weight.is_meta or torch.as_tensor(zero).isfinite().all()):
            raise ValueError("format: a weight holds NaN or inf, for which fixed point has no code; take mxint8")
        scale = torch.as_tensor(f, dtype=torch.int8, device=weight.device)
        return {"codes": self.codes(weight, f).to(torch.int8), "scale": scale}

    def unpack(self, parts: dict[str, Tensor], dtype: torch.dtype) -> Tensor:
        return shift(parts["codes"].to(dtype), -parts["scale"].int())
