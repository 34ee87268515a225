"""Linears computed with the numbers that a format has: y = Q_w(W) Q_x(x) + b, in floats that hold only such numbers.

Done to trained weights it is quantisation after training; trained on it is quantisation-aware training: gradients pass
straight through the rounding, and the weights under it stay floats. `weight` and `inputs` are formats of conf/format,
chosen by `format@change.quantize.weight=mxfp4`; either may be null. The exact position of a fixed point is often not
known beforehand: `calibrate` puts it where the largest weight of each Linear just fits,

    fraction_width = width - 1 - ceil(log2 max |W|)
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gptlab.change import Change
from gptlab.compress.format import Format

if TYPE_CHECKING:
    from gptlab.decoder import Decoder


class Quantize(Change):
    """weight, inputs: formats, null for floats. calibrate: of fixed points, of weights alone."""

    def __init__(
        self,
        *,
        targets: str | list[str] = "blocks.*",
        weight: Callable[..., Format] | None = None,
        inputs: Callable[..., Format] | None = None,
        calibrate: bool = False,
    ) -> None:
        super().__init__(targets=targets)
        if weight is None and inputs is None:
            raise ValueError(
                "weight=null and inputs=null leave everything as it is; say format@change.quantize.weight=mxint8"
            )
        if calibrate and not hasattr(weight() if weight else None, "fraction_width"):
            raise ValueError("calibrate=true wants a fixed point; say format@change.quantize.weight=integer, or false")
        self.weight, self.inputs, self.calibrate = weight, inputs, calibrate

    def __call__(self, decoder: "Decoder", seed: int = 0) -> "Decoder":
        for linear in self.linears(decoder).values():
            if self.weight is not None:
                form = self.weight()
                kept = Calibrated(form, linear.weight) if self.calibrate else form
                parametrize.register_parametrization(linear, "weight", kept)
            if self.inputs is not None:
                linear.add_module("inputs", form := self.inputs())  # which may have parameters
                linear.register_forward_pre_hook(Inputs(form))
        return decoder


class Calibrated(nn.Module):
    """A fixed point whose place is decided once and kept in the checkpoint: Q(2^shift W) / 2^shift."""

    shift: Tensor

    def __init__(self, form: Any, weight: Tensor) -> None:
        super().__init__()
        self.form = form
        largest = 0.0 if weight.is_meta else weight.detach().abs().max().item()
        fraction = form.width - 1 - math.ceil(math.log2(largest)) if largest > 0 else form.fraction_width
        self.register_buffer("shift", torch.tensor(fraction - form.fraction_width))

    def forward(self, weight: Tensor) -> Tensor:
        return torch.ldexp(self.form(torch.ldexp(weight, self.shift)), -self.shift)


class Inputs:
    """Rounds what a Linear is given, token by token."""

    def __init__(self, form: Format) -> None:
        self.form = form

    def __call__(self, linear: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (self.form(given[0]), *given[1:])
