"""What is done to the Linears of a decoder that has its first weights, drawn or loaded: adapted, pruned,
rounded, packed.

A change takes every nn.Linear whose name fits a glob, so no part knows of it. Changes follow each other in the order of
their list; what one leaves behind, the next one finds.
"""

import re
from collections import Counter
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from torch import nn
from torch.nn.utils import parametrize

from gptlab.errors import Refused

if TYPE_CHECKING:
    from gptlab.model.decoder import Decoder


class Change:
    """The slot's contract: __init__(*, targets, knobs)."""

    needs_whole_matrices = False
    """True if it cannot work on weights in shares (trainer=fsdp)."""

    def __init__(self, *, targets: str | list[str]) -> None:
        self.targets = [targets] if isinstance(targets, str) else targets

    def __call__(self, decoder: "Decoder", seed: int = 0) -> "Decoder":
        """The decoder, changed in place. What is drawn depends on the seed and the names of Linears alone."""
        raise NotImplementedError

    def meet(self, steps: int) -> None:
        """Refuses what a training of so many steps cannot keep."""

    def linears(self, decoder: "Decoder") -> dict[str, nn.Linear]:
        """The Linears that any of `targets` names; one whose weight is an embedding's too is refused, and so is a glob
        that names none."""
        every = {name: part for name, part in decoder.named_modules() if isinstance(part, nn.Linear)}
        found = {name: part for name, part in every.items() if any(fnmatchcase(name, glob) for glob in self.targets)}
        idle = [glob for glob in self.targets if not any(fnmatchcase(name, glob) for name in found)]
        if idle or not found:
            kinds = ", ".join(sorted({re.sub(r"\.\d+(?=\.)", ".*", name) for name in every}))
            raise ValueError(f"targets={','.join(idle)} fits no Linear; there are {kinds}")
        held = Counter(id(p) for part in decoder.modules() for p in part.parameters(recurse=False))
        for name, part in found.items():
            if held[id(part.weight)] > 1:
                raise ValueError(
                    f"targets={','.join(self.targets)} takes in {name}, whose weight is the embedding's; "
                    "leave it out, as blocks.* does, or say readout=untied"
                )
        return found

    def weights(self, decoder: "Decoder") -> dict[str, nn.Linear]:
        """The targets of a change that alters weights, which packed ones do not allow."""
        found = self.linears(decoder)
        for name, part in found.items():
            if "weight" not in part._parameters and not parametrize.is_parametrized(part, "weight"):
                raise ValueError(
                    f"targets={','.join(self.targets)} takes in {name}, which is packed; change it before it is packed"
                )
        return found


class Part(nn.Module):
    """What a change may leave in a decoder; a parametrisation of a weight need be none."""

    folds = True
    """False if no plain decoder says the same."""

    def merged(self) -> nn.Module:
        """The plain module that says the same; this one is used up."""
        raise NotImplementedError

    def tell(self) -> dict[str, float]:
        """Numbers for the summary of a run."""
        return {}


def told(decoder: "Decoder") -> dict[str, float]:
    """What the changes of a decoder tell of it, for its run's summary."""
    parts = [part for part in decoder.modules() if isinstance(part, Part)]
    return {key: value for part in parts for key, value in part.tell().items()}


def merge(decoder: "Decoder") -> "Decoder":
    """Folds what changes left into plain Linears, in place: the same function up to rounding, with the names of a
    decoder that nothing has changed, and nothing frozen."""
    if not all(part.folds for part in decoder.modules() if isinstance(part, Part)):
        raise Refused(
            "change=[quantize] rounds what Linears are given, which no plain Linear does; keep the run as it is"
        )
    for name, part in list(decoder.named_modules()):
        if isinstance(part, nn.Linear) and "weight" not in part._parameters:
            decoder.set_submodule(name, plain(part))
    for name, part in list(decoder.named_modules()):
        if isinstance(part, Part):
            decoder.set_submodule(name, part.merged())
    return decoder.requires_grad_(True)


def plain(linear: nn.Linear) -> nn.Linear:
    """A Linear with the weight that a parametrised or packed one computes. (torch's remove_parametrizations takes the
    property from the class, so from every copy of the decoder too.)"""
    made = nn.Linear(linear.in_features, linear.out_features, device="meta")
    made.weight, made.bias = nn.Parameter(linear.weight.detach()), linear.bias
    return made
