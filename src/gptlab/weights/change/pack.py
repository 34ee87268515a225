"""Weights stored in a byte each: what a finished run becomes, `python -m gptlab export <run> --format mxint8`.

Packed weights do not learn; norms, embeddings and biases do, and so do adapters that follow: change=[pack,lora] is
QLoRA (Dettmers 2023, arXiv:2305.14314) in another format.

The floats of a packed Linear are the very ones that fake quantisation would compute with, so packing what is rounded
already changes nothing. It saves memory, not time: floats exist of one Linear at a time, while it computes, in the
backward pass too, for which autograd would else keep those of all Linears.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from gptlab.weights.change import Change, ChangeModule
from gptlab.weights.format import Format

if TYPE_CHECKING:
    from gptlab.model.decoder import Decoder


class Pack(Change):
    """Pack the weights of the targets.

    format  a format that can be stored
    """

    needs_whole_matrices = True

    def __init__(self, *, targets: str | list[str] = "blocks.*", format: Callable[..., Format]) -> None:
        super().__init__(targets=targets)
        self.format = format
        with torch.device("cpu"):
            format().pack(torch.zeros(1, 1))  # refuses what cannot be stored

    def __call__(self, decoder: "Decoder", seed: int = 0) -> "Decoder":
        targets = self.find_unpacked_linears(decoder)
        # packing freezes what is there: a mask or an adapter below it could no longer act
        if any(isinstance(module, ChangeModule) or parametrize.is_parametrized(module) for module in decoder.modules()):
            raise ValueError(
                "targets: an earlier change has altered the decoder; put pack first, or pack the finished run by "
                "python -m gptlab export <run> --format mxint8"
            )
        for name, linear in targets.items():
            decoder.set_submodule(name, PackedLinear(linear, self.format()))
        decoder.add_module("packing", PackingMetrics(decoder))
        return decoder


class PackingMetrics(ChangeModule):
    """Counts the bytes of packed weights for the run's summary; it has no tensors of its own."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.linears = tuple(module for module in decoder.modules() if isinstance(module, PackedLinear))

    def to_plain_module(self) -> nn.Module:
        return nn.Identity()

    def summary_metrics(self) -> dict[str, float]:
        packed_bytes = sum(linear.nbytes for linear in self.linears)
        unpacked_bytes = sum(linear.float_bytes for linear in self.linears)
        return {"packed_bytes": packed_bytes, "unpacked_bytes": unpacked_bytes}


class PackedLinear(nn.Linear):
    """A Linear whose weight is packed and does not learn; its bias stays as it was."""

    like: Tensor

    def __init__(self, linear: nn.Linear, format: Format) -> None:
        nn.Module.__init__(self)  # nn.Linear would make a weight
        self.in_features, self.out_features, self.bias = linear.in_features, linear.out_features, linear.bias
        self.format = format
        tensors = format.pack(linear.weight.detach())
        self.names = list(tensors)
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)
        self.register_buffer("like", linear.weight.new_empty(0), persistent=False)  # follows .to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        return PackedMatmul.apply(x, self.bias, self)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The unpacked weight, (out, in)."""
        return self.format.unpack({name: self.get_buffer(name) for name in self.names}, self.like.dtype)

    @property
    def nbytes(self) -> int:
        """Bytes of the stored weight."""
        return sum(self.get_buffer(name).nbytes for name in self.names)

    @property
    def float_bytes(self) -> int:
        """Bytes of the same weight in float32."""
        return self.in_features * self.out_features * torch.float32.itemsize


class PackedMatmul(torch.autograd.Function):
    """x W^T + b, whose backward unpacks W anew instead of keeping it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, linear: PackedLinear) -> Tensor:
        ctx.linear, ctx.dtype = linear, x.dtype
        # the unpacked weight is no leaf and is not saved: it is gone after this line
        return functional.linear(x, linear.weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # type: ignore[override]
        # grad (..., out), W (out, in); W has no gradient, since codes do not learn
        x_needs_grad, bias_needs_grad, _ = ctx.needs_input_grad
        x_grad = (grad @ ctx.linear.weight.to(grad.dtype)).to(ctx.dtype) if x_needs_grad else None
        bias_grad = grad.flatten(0, -2).sum(0) if bias_needs_grad else None
        return x_grad, bias_grad, None
