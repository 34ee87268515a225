"""A Linear whose weight is stored in a format's integers, and made floats again each time it is met.

The floats are the very ones that fake quantisation would compute with, so packing what is rounded already changes
nothing. It saves memory, not time: what a weight takes while it is met is what it takes always, one Linear at a time,
in the backward pass too, for which autograd would else keep the floats of all of them.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gptlab.weights.format import Format


class PackedLinear(nn.Linear):
    """A Linear, packed. Its weight does not learn; its bias stays as it was."""

    like: Tensor

    def __init__(self, linear: nn.Linear, format: Format) -> None:
        nn.Module.__init__(self)  # nn.Linear would make a weight
        self.in_features, self.out_features, self.bias = linear.in_features, linear.out_features, linear.bias
        self.format = format
        parts = format.pack(linear.weight.detach())
        self.names = list(parts)
        for name, part in parts.items():
            self.register_buffer(name, part)
        self.register_buffer("like", linear.weight.new_empty(0), persistent=False)  # follows .to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        return Met.apply(x, self.bias, self)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """(out, in), unpacked."""
        return self.format.unpack({name: self.get_buffer(name) for name in self.names}, self.like.dtype)

    @property
    def nbytes(self) -> int:
        """Bytes of the stored weight."""
        return sum(self.get_buffer(name).nbytes for name in self.names)

    @property
    def float_bytes(self) -> int:
        """Bytes of the same weight in float32."""
        return self.in_features * self.out_features * torch.float32.itemsize


class Met(torch.autograd.Function):
    """x W^T + b, whose backward makes W anew instead of keeping it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, linear: PackedLinear) -> Tensor:
        ctx.linear, ctx.dtype = linear, x.dtype
        return functional.linear(x, linear.weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # type: ignore[override]
        reads, adds, _ = ctx.needs_input_grad
        back = (grad @ ctx.linear.weight.to(grad.dtype)).to(ctx.dtype) if reads else None
        return back, grad.flatten(0, -2).sum(0) if adds else None, None
