"""A Linear whose weight is stored in a format's integers, and made floats again each time it is met.

The floats are the very ones that fake quantisation would compute with, so packing what is rounded already changes
nothing. It saves memory, not time: what a weight takes while it is met is what it takes always, one Linear at a time.
"""

import torch
from torch import Tensor, nn

from gptlab.compress.format import Format


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
