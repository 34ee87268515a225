"""Fixed point: whole multiples of 2^-f, w bits wide.

int8  8 bits, with the f of each row that its largest magnitude allows

    q = clamp(round(x 2^f), low, high) / 2^f
    low, high = -2^(w-1), 2^(w-1) - 1        or, unsigned, 0, 2^w - 1

half_even rounds ties to even, floor cuts off (both as in MASE, DeepWok/mase). f is given, or fitted to a magnitude:

    f = w - 1 - ceil(log2 max |x|)

Fitted to the tensor by default: half the width behind the point is a step of 1/16 at 8 bits, which rounds nine in ten
weights of std 0.02 to 0.

row: of each row of a weight, of each token. tensor: of a weight; of an activation, the largest that was watched, since
the maximum over a sequence would let later tokens change earlier ones, and before any was watched each token's own.
What is fitted to NaN or inf is NaN.
"""

from typing import Literal

import torch
from torch import Tensor

from gptlab.weights.format import Format, Ste, refuse_outside
from gptlab.weights.format_bits import ceil_log2, ldexp, to_compute_dtype

MIN_FRACTION_ABOUT_WIDTH, MAX_FRACTION = -127, 126
"""Bounds of f, the lower one plus the width: so a float32 holds the format's limits and step."""


class Integer(Format):
    """Fixed point.

    width           bits, the sign's included
    fraction_width  f, bits after the point, also below 0 or above width; row or tensor fits it; null is half the width
    signed          false for values from 0
    rounding        half_even or floor
    ste             of the gradient, as in Format
    """

    most: Tensor  # largest magnitude that was watched; a key of checkpoints

    def __init__(
        self,
        *,
        width: int = 8,
        fraction_width: int | Literal["row", "tensor"] | None = "tensor",
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
            refuse_outside("fraction_width", self.fraction_width, width + MIN_FRACTION_ABOUT_WIDTH, MAX_FRACTION)
        self.low = -(2 ** (width - 1)) if signed else 0
        self.high = 2 ** (width - signed) - 1

    def fit_fraction(self, x: Tensor) -> tuple[Tensor | int, Tensor | float]:
        """Return f for each of x, and a 0 that is NaN where f was fitted to NaN or inf."""
        if isinstance(self.fraction_width, int):
            return self.fraction_width, 0.0
        if self.fraction_width == "row":
            largest = x.abs().amax(-1, keepdim=True)
        elif x.dim() > 2:
            # NaN: nothing was watched yet, so each token has its own range
            largest = torch.where(self.most.isnan(), x.abs().amax(-1, keepdim=True), self.most)
        else:
            largest = x.abs().amax()
        # the finest step at which the largest magnitude is at most 2^(w-1) steps
        f = self.width - self.signed - ceil_log2(largest)
        return f.clamp(self.width + MIN_FRACTION_ABOUT_WIDTH, MAX_FRACTION), largest * 0  # inf * 0 is NaN

    def quantize(self, x: Tensor) -> Tensor:
        x = to_compute_dtype(x, wide=self.width > 24)  # 2^31 - 1 is no float32
        f, zero = self.fit_fraction(x)
        return ldexp(self.encode(x, f), -f) + zero

    def encode(self, x: Tensor, f: Tensor | int) -> Tensor:
        """Return the whole numbers that stand for x (..., D)."""
        x = ldexp(x, f)
        return (x.round() if self.rounding == "half_even" else x.floor()).clamp(self.low, self.high)

    def limits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = to_compute_dtype(x)
        f, _ = self.fit_fraction(x)
        return ldexp(x.new_tensor(float(self.low)), -f), ldexp(x.new_tensor(float(self.high)), -f)

    def watch(self, x: Tensor) -> None:
        if self.watches:
            # fmax: the first watched value replaces NaN, and a NaN among activations does not stick
            self.most.copy_(torch.fmax(self.most, x.detach().abs().amax()))

    def bits(self, features: int) -> float:
        return self.width + (8 / features if self.fraction_width == "row" else 0)

    def pack(self, weight: Tensor) -> dict[str, Tensor]:
        """Return a byte a value, and f in a byte, for all or for each row."""
        if self.width > 8 or not self.signed:
            raise ValueError(f"format.width={self.width} fits no signed byte; try width=8, signed=true")
        weight = to_compute_dtype(weight)
        f, zero = self.fit_fraction(weight)
        if not (weight.is_meta or torch.as_tensor(zero).isfinite().all()):
            raise ValueError("format: a weight holds NaN or inf, for which fixed point has no code; take mxint8")
        scale = torch.as_tensor(f, dtype=torch.int8, device=weight.device)
        return {"codes": self.encode(weight, f).to(torch.int8), "scale": scale}

    def unpack(self, parts: dict[str, Tensor], dtype: torch.dtype) -> Tensor:
        return ldexp(parts["codes"].to(dtype), -parts["scale"].int())
