"""Weights stored in a byte each: what a finished run becomes, `python -m gptlab export <run> --format mxint8`.

Packed weights rest; norms, embeddings and biases learn on, and so do adapters that follow: change=[pack,lora] is QLoRA
(Dettmers 2023, arXiv:2305.14314) in another format.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.utils import parametrize

from gptlab.weights.change import Change, Part
from gptlab.weights.format import Format
from gptlab.weights.packed import PackedLinear

if TYPE_CHECKING:
    from gptlab.model.decoder import Decoder


class Pack(Change):
    """format: one that can be stored."""

    needs_whole_matrices = True

    def __init__(self, *, targets: str | list[str] = "blocks.*", format: Callable[..., Format]) -> None:
        super().__init__(targets=targets)
        self.format = format
        with torch.device("cpu"):
            format().pack(torch.zeros(1, 1))  # refuses what cannot be stored

    def __call__(self, decoder: "Decoder", seed: int = 0) -> "Decoder":
        targets = self.weights(decoder)
        if any(isinstance(part, Part) or parametrize.is_parametrized(part) for part in decoder.modules()):
            raise ValueError(
                "targets: an earlier change has altered the decoder; put pack first, or pack the finished run by "
                "python -m gptlab export <run> --format mxint8"
            )
        for name, linear in targets.items():
            decoder.set_submodule(name, PackedLinear(linear, self.format()))
        decoder.add_module("packing", Packing(decoder))
        return decoder


class Packing(Part):
    """What packed weights take; it has no tensors of its own."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.linears = tuple(part for part in decoder.modules() if isinstance(part, PackedLinear))

    def merged(self) -> nn.Module:
        return nn.Identity()

    def tell(self) -> dict[str, float]:
        return {
            "packed_bytes": sum(part.nbytes for part in self.linears),
            "unpacked_bytes": sum(part.float_bytes for part in self.linears),
        }
