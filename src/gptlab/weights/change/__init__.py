"""Changes of a decoder that has its first weights, drawn or loaded: adapters, pruning, rounding, packing.

A change takes every nn.Linear whose name fits a glob, so no part of the model knows of it. Changes are applied in the
order of their list, each to what the one before left.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from torch import nn
from torch.nn.utils import parametrize

from gptlab.errors import Refused

if TYPE_CHECKING:
    from gptlab.model.decoder import Decoder


class Change:
    """Contract of the slot `change`: __init__(*, targets, knobs).

    targets               globs of names of Linears
    needs_whole_matrices  True if it cannot work on shares of a weight (trainer=fsdp)
    """

    needs_whole_matrices = False

    def __init__(self, *, targets: str | list[str]) -> None:
        self.targets = [targets] if isinstance(targets, str) else targets

    def __call__(self, decoder: "Decoder", seed: int = 0) -> "Decoder":
        """Change the decoder in place, and return it.

        Random numbers depend on the seed and the names of Linears alone.
        """
        raise NotImplementedError

    def check_compatible(self, steps: int) -> None:
        """Refuse knobs that do not go with a training of `steps` steps."""

    def find_linears(self, decoder: "Decoder") -> dict[str, nn.Linear]:
        """Return the Linears that any of `targets` names.

        Raises ValueError if a glob names none, or if a weight is the embedding's too.
        """
        linears = {name: module for name, module in decoder.named_modules() if isinstance(module, nn.Linear)}
        targets: dict[str, nn.Linear] = {}
        for name, linear in linears.items():
            if any(fnmatchcase(name, glob) for glob in self.targets):
                targets[name] = linear
        unmatched = find_unmatched(self.targets, targets)
        if unmatched or not targets:
            kinds = ", ".join(sorted({re.sub(r"\.\d+(?=\.)", ".*", name) for name in linears}))
            raise ValueError(f"targets={','.join(unmatched)} fits no Linear; there are {kinds}")
        # a change of a tied head would change the embedding with it
        uses = Counter(id(p) for module in decoder.modules() for p in module.parameters(recurse=False))
        for name, linear in targets.items():
            if uses[id(linear.weight)] > 1:  # tied
                raise ValueError(
                    f"targets={','.join(self.targets)} takes in {name}, whose weight is the embedding's; "
                    "leave it out, as blocks.* does, or say readout=untied"
                )
        return targets

    def find_unpacked_linears(self, decoder: "Decoder") -> dict[str, nn.Linear]:
        """Return the targets of a change that alters weights.

        Raises ValueError if one of them is packed.
        """
        targets = self.find_linears(decoder)
        for name, linear in targets.items():
            if "weight" not in linear._parameters and not parametrize.is_parametrized(linear, "weight"):
                raise ValueError(
                    f"targets={','.join(self.targets)} takes in {name}, which is packed; change it before it is packed"
                )
        return targets


def find_unmatched(globs: Iterable[str], names: Collection[str]) -> list[str]:
    """Return the globs that fit none of the names."""
    unmatched = []
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in names):
            unmatched.append(glob)
    return unmatched


class ChangeModule(nn.Module):
    """Base of the modules that a change may leave in a decoder; a parametrisation of a weight need not be one.

    mergeable  False if no plain decoder computes the same
    """

    mergeable = True

    def to_plain_module(self) -> nn.Module:
        """Return the plain module that computes the same; this one is used up."""
        raise NotImplementedError

    def summary_metrics(self) -> dict[str, float]:
        """Return numbers for the summary of a run."""
        return {}


def summary_metrics(decoder: "Decoder") -> dict[str, float]:
    """Return the numbers of a decoder's changes, for its run's summary."""
    metrics: dict[str, float] = {}
    for module in decoder.modules():
        if isinstance(module, ChangeModule):
            metrics |= module.summary_metrics()
    return metrics


def merge(decoder: "Decoder") -> "Decoder":
    """Fold what changes left into plain Linears, in place, and return the decoder.

    It computes the same function up to rounding, has the parameter names of a decoder without changes, and nothing is
    frozen. Raises Refused if activations are rounded.
    """
    if not all(module.mergeable for module in decoder.modules() if isinstance(module, ChangeModule)):
        raise Refused(
            "change=[quantize] rounds what Linears are given, which no plain Linear does; keep the run as it is"
        )
    for name, module in list(decoder.named_modules()):
        # parametrised and packed Linears first: a module that a change left may hold one of them
        if isinstance(module, nn.Linear) and "weight" not in module._parameters:
            decoder.set_submodule(name, make_plain_linear(module))
    for name, module in list(decoder.named_modules()):
        if isinstance(module, ChangeModule):
            decoder.set_submodule(name, module.to_plain_module())
    return decoder.requires_grad_(True)


def make_plain_linear(linear: nn.Linear) -> nn.Linear:
    """Return a Linear with the weight that a parametrised or packed one computes.

    torch's remove_parametrizations takes the property from the class, so from every copy of the decoder too.
    """
    plain = nn.Linear(linear.in_features, linear.out_features, device="meta")  # its own weights are replaced below
    plain.weight, plain.bias = nn.Parameter(linear.weight.detach()), linear.bias
    return plain
