"""What is done to the Linears of a decoder that has its first weights, drawn or loaded: adapted, pruned.

A change takes every nn.Linear whose name fits a glob, so no part knows of it. Changes follow each other in the order of
their list; what one leaves behind, the next one finds.
"""

import re
from collections import Counter
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn.utils import parametrize

if TYPE_CHECKING:
    from gptlab.decoder import Decoder


class Change:
    """The slot's contract: __init__(*, targets, knobs). A part that it leaves in the decoder may have after_step(step),
    merged(), the plain Linear that says the same, and tell(), numbers for the run's summary."""

    needs_whole_matrices = False
    """True if it cannot work on weights in shares (trainer=fsdp)."""

    def __init__(self, *, targets: str) -> None:
        self.targets = targets

    def __call__(self, decoder: "Decoder", seed: int = 0) -> "Decoder":
        """The decoder, changed in place. What is drawn depends on the seed and the names of Linears alone."""
        raise NotImplementedError

    def meet(self, steps: int) -> None:
        """Refuses what a training of so many steps cannot keep."""

    def linears(self, decoder: "Decoder") -> dict[str, nn.Linear]:
        """The Linears that `targets` names; one whose weight is an embedding's too is refused, and so is none."""
        every = {name: part for name, part in decoder.named_modules() if isinstance(part, nn.Linear)}
        found = {name: part for name, part in every.items() if fnmatchcase(name, self.targets)}
        if not found:
            kinds = ", ".join(sorted({re.sub(r"\.\d+(?=\.)", ".*", name) for name in every}))
            raise ValueError(f"targets={self.targets} fits no Linear; there are {kinds}")
        held = Counter(id(p) for part in decoder.modules() for p in part.parameters(recurse=False))
        for name, part in found.items():
            if held[id(part.weight)] > 1:
                raise ValueError(
                    f"targets={self.targets} takes in {name}, whose weight is the embedding's; "
                    "leave it out, as blocks.* does, or say readout=untied"
                )
        return found


def told(decoder: "Decoder") -> dict[str, float]:
    """What the changes of a decoder tell of it, for its run's summary."""
    tells: list[Any] = [getattr(part, "tell", None) for part in decoder.modules()]
    return {key: value for tell in tells if callable(tell) for key, value in tell().items()}


def merge(decoder: "Decoder") -> "Decoder":
    """Folds what changes left into plain Linears, in place: the same function up to rounding, with the names of a
    decoder that nothing has changed."""
    for part in list(decoder.modules()):
        if parametrize.is_parametrized(part, "weight"):
            parametrize.remove_parametrizations(part, "weight", leave_parametrized=True)
    for name, part in list(decoder.named_modules()):
        merged: Any = getattr(part, "merged", None)
        if callable(merged):
            decoder.set_submodule(name, merged())
    return decoder
