"""The numbers that a tensor may hold: fake quantisation, which rounds to a format and stays in floats.

What a format asks of a tensor as a whole, such as the largest value of a block, it asks along the last axis alone: the
inputs of one output in a weight, the features of one token in an activation. So no later token changes an earlier one.
Gradients pass straight through the rounding (Bengio 2013, arXiv:1308.3432). NaN stays NaN.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd import Function

Ste = Literal["identity", "clipped"]


class Format(nn.Module):
    """The slot's contract: __init__(*, knobs). ste: identity passes the gradient everywhere, clipped only where x lies
    within what the format can say."""

    def __init__(self, *, ste: Ste = "identity") -> None:
        super().__init__()
        self.ste = ste

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to the same, each value one that the format can say."""
        given = x.detach()
        said = self.quantize(given).to(x.dtype)
        inside = None
        if self.ste == "clipped":
            low, high = self.limits(given)
            inside = (given >= low) & (given <= high)
        return Straight.apply(x, said, inside)  # type: ignore[no-any-return]

    def quantize(self, x: Tensor) -> Tensor:
        """(..., D) to the values that stand for it, in any float dtype."""
        raise NotImplementedError

    def limits(self, x: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """Between what the clipped gradient passes: the least and the largest that can be said in the place of x."""
        raise NotImplementedError

    def bits(self, features: int) -> float:
        """Mean bits of a value in rows of so many, what their blocks or rows share included."""
        raise NotImplementedError

    watches = False
    """True if its range on activations is that of those which it watched before it rounds any."""

    def watch(self, x: Tensor) -> None:
        """Sees an activation as it is."""

    def pack(self, weight: Tensor) -> dict[str, Tensor]:
        """(out, in) to the integers that are stored of it, by name."""
        raise ValueError(f"format={type(self).__name__} has no packed storage here; mxint8 and int8 have")

    def unpack(self, parts: dict[str, Tensor], dtype: torch.dtype) -> Tensor:
        """What was packed to (out, in), the very values that the format says of the weight."""
        raise NotImplementedError


class Straight(Function):
    """`said` for x. The gradient goes to x as if nothing had been done, where x is inside, and to what made `said`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, said: Tensor, inside: Tensor | None) -> Tensor:
        ctx.save_for_backward(inside)
        return said.view_as(said)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, None]:
        (inside,) = ctx.saved_tensors
        return dy if inside is None else dy * inside, dy, None


def refuse_outside(knob: str, value: int, low: int, high: int) -> None:
    """A knob that is not in low .. high."""
    if not low <= value <= high:
        raise ValueError(f"{knob}={value} is not in {low} .. {high}; try {min(max(value, low), high)}")


def refuse_unheld(knob: str, value: int, low: int, high: int, digits: int = 0) -> None:
    """A knob that makes exponents low .. high of numbers with so many fraction digits, which no float32 holds."""
    if low < -126 or low - digits < -149 or high > 127:
        asked = f"{knob}={value} asks for 2^{low} .. 2^{high}" + f" with {digits} digits below" * (digits > 0)
        raise ValueError(f"{asked}; float32 has 2^-126 .. 2^127 with 23, try another")
