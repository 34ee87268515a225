"""Number formats: fake quantisation, which rounds to a format and stays in floats.

What a format takes from a tensor as a whole, such as the largest value of a block, it takes along the last axis alone:
the inputs of one output in a weight, the features of one token in an activation. So no later token changes an earlier
one. Gradients pass straight through the rounding (Bengio 2013, arXiv:1308.3432). NaN stays NaN.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd import Function

Ste = Literal["identity", "clipped"]


class Format(nn.Module):
    """Contract of the slot `format`: __init__(*, knobs).

    ste      identity passes the gradient everywhere, clipped only where x is within the format's limits
    watches  True if its range on activations is that of those which it watched before it rounds any
    scaled   False if values of any size become values of one size
    """

    watches = False
    scaled = True

    def __init__(self, *, ste: Ste = "identity") -> None:
        super().__init__()
        self.ste = ste

    def forward(self, x: Tensor) -> Tensor:
        """Return x (..., D) rounded to the format's values."""
        # autograd must not follow the rounding, whose gradient is 0 almost everywhere
        values = x.detach()
        rounded = self.quantize(values).to(x.dtype)
        inside = None  # everywhere
        if self.ste == "clipped":
            low, high = self.limits(values)
            inside = (values >= low) & (values <= high)
        return StraightThrough.apply(x, rounded, inside)  # type: ignore[no-any-return]

    def quantize(self, x: Tensor) -> Tensor:
        """Return the values that stand for x (..., D), in any float dtype."""
        raise NotImplementedError

    def limits(self, x: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """Return the least and the largest value of the format for each of x: the clipped gradient passes between."""
        raise NotImplementedError

    def bits(self, features: int) -> float:
        """Return the mean bits of a value in rows of `features`, what blocks or rows share included."""
        raise NotImplementedError

    def watch(self, x: Tensor) -> None:
        """Observe an unrounded activation, from which a format may fit its range."""

    def pack(self, weight: Tensor) -> dict[str, Tensor]:
        """Return the integers that are stored of a weight (out, in), by name."""
        raise ValueError(f"format={type(self).__name__} has no packed storage here; mxint8 and int8 have")

    def unpack(self, parts: dict[str, Tensor], dtype: torch.dtype) -> Tensor:
        """Return the packed weight (out, in), the very values of `quantize`."""
        raise NotImplementedError


class StraightThrough(Function):
    """`rounded` in place of x.

    The gradient goes to x as if it were the identity, where x is inside, and to `rounded`.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, rounded: Tensor, inside: Tensor | None) -> Tensor:
        ctx.save_for_backward(inside)
        # a view: a Function that returns its input would be taken for the identity
        return rounded.view_as(rounded)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, None]:
        (inside,) = ctx.saved_tensors
        # the gradient to `rounded` reaches learnt scales, such as binary_residual's gamma
        return dy if inside is None else dy * inside, dy, None


def refuse_outside(knob: str, value: int, low: int, high: int) -> None:
    """Raise ValueError for a knob that is not in low .. high."""
    if not low <= value <= high:
        raise ValueError(f"{knob}={value} is not in {low} .. {high}; try {min(max(value, low), high)}")


def refuse_unrepresentable(knob: str, value: int, low: int, high: int, digits: int = 0) -> None:
    """Raise ValueError for a knob whose exponents low .. high, at so many fraction digits, no float32 holds."""
    if low < -126 or low - digits < -149 or high > 127:
        problem = f"{knob}={value} asks for 2^{low} .. 2^{high}" + f" with {digits} digits below" * (digits > 0)
        raise ValueError(f"{problem}; float32 has 2^-126 .. 2^127 with 23, try another")
