"""Kinds of parameters by which of their sides grow with the width, as the theory of wide networks tells them apart.

    input    only its outputs grow: embeddings, norms, biases, gains, a thin Linear back to the width
    hidden   both sides grow: q, k, v, out, up, gate
    output   only its inputs grow: a router, a gate of each head
    readout  the same, at the end of the decoder, which multiplies what the readout is given
    fixed    no side grows: numbers of each head, tables of buckets

No table of names says which is which: the decoder is built once more, without memory, with heads twice as wide, and the
shapes are compared. What a knob holds fixed would not grow there; the inner width of an MLP, which match=params sets by
such a knob, counts as wide all the same.
"""

from typing import Literal

from torch import Tensor, nn

from gptlab.model.decoder import Decoder
from gptlab.model.mlp import Mlp

Kind = Literal["input", "hidden", "output", "readout", "fixed"]


def find_kinds(decoder: Decoder, wider: Decoder) -> dict[str, Kind]:
    """Return the kind of each parameter by name, from a decoder and the same one with wider heads."""
    kinds: dict[str, Kind] = {}
    for path, module in decoder.named_modules():
        twin, parent = wider.get_submodule(path), decoder.get_submodule(path.rpartition(".")[0])
        for name, p in module.named_parameters(path, recurse=False):
            if name in kinds:
                continue
            grows = _find_growing_sides(p, twin.get_parameter(name.rpartition(".")[2]), parent)
            # a Linear alone has inputs: a table of embeddings is chosen from by row, other parameters are met feature
            # by feature
            if isinstance(module, nn.Linear) and p.ndim == 2:
                outputs, inputs = grows
            else:
                outputs, inputs = any(grows), False
            if inputs and not outputs and path.startswith("readout"):
                kinds[name] = "readout"
            else:
                kinds[name] = _name_kind(inputs, outputs)
    return kinds


def _find_growing_sides(p: Tensor, wider: Tensor, parent: nn.Module) -> list[bool]:
    """Return for each axis of a parameter whether it grows with the width."""
    hidden = parent.hidden if isinstance(parent, Mlp) else None
    return [size != other or size == hidden for size, other in zip(p.shape, wider.shape, strict=True)]


def _name_kind(inputs: bool, outputs: bool) -> Kind:
    if inputs:
        return "hidden" if outputs else "output"
    return "input" if outputs else "fixed"
