"""Fake quantisation: weights, and the inputs of Linears, rounded to a number format and kept in floats.

    y = Q_w(W) Q_a(x) + b

start chooses between two questions. At 0, or after some steps, training goes on under the rounding, whose gradient
passes straight through (QAT, Jacob 2017, arXiv:1712.05877). After the last step, start=${steps}, the weights are those
of a float training, and what is measured is how they bear it (PTQ). A format that fits its range to activations watches
those of the last steps before.
"""

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gptlab.weights.change import Change, ChangeModule, find_unmatched
from gptlab.weights.format import Format

if TYPE_CHECKING:
    from gptlab.model.decoder import Decoder

MakeFormat = Callable[..., Format]
FLOAT = "float"
"""Name of the kind that rounds nothing."""
WATCH_STEPS = 20
"""Number of steps before the start in which activations are watched."""
OFF, WATCHING, ON = range(3)


class Quantize(Change):
    """Round the targets' weights and inputs.

    weight      format of weights, or null for floats
    activation  format of inputs, or null for floats
    layout      exceptions by layer, in entries glob:kind for the weight, or glob:kind/kind for weight and
                input; the first that fits holds
    kinds       formats by name, for the layout; `float` is one besides
    start       steps after which it rounds
    """

    needs_whole_matrices = True

    def __init__(
        self,
        *,
        targets: str | list[str] = "blocks.*",
        weight: Callable[..., Format] | None = None,
        activation: Callable[..., Format] | None = None,
        layout: list[str] | None = None,
        kinds: dict[str, Callable[..., Format]] | None = None,
        start: int = 0,
    ) -> None:
        super().__init__(targets=targets)
        if start < 0:
            raise ValueError(f"start={start} is negative; 0 rounds from the first step")
        self.weight, self.activation, self.start = weight, activation, start
        self.kinds: dict[str, MakeFormat | None] = {**(kinds or {}), FLOAT: None}
        self.layout = [self.parse_layout_entry(text) for text in layout or ()]
        if not (weight or activation or any(any(pair) for _, pair in self.layout)):
            raise ValueError("weight=null and activation=null round nothing; give one of them a format, or a layout")
        # by the knob that names them, for refusals
        weights: dict[str, MakeFormat | None] = {"weight": weight}
        activations: dict[str, MakeFormat | None] = {"activation": activation}
        for _, (weight_kind, activation_kind) in self.layout:
            if weight_kind:
                weights[f"kinds.{weight_kind}"] = self.kinds[weight_kind]
            if activation_kind:
                activations[f"kinds.{activation_kind}"] = self.kinds[activation_kind]
        for path, make in weights.items():
            if make and not (format := make()).scaled:
                raise ValueError(
                    f"{path}={type(format).__name__} makes weights of any size one size, which takes a norm after each "
                    "product; take binary_scaling, which keeps the size"
                )
        self.watches = False
        for path, make in activations.items():
            # made for its refusal too
            if make and _make_activation_format(path, make).watches:
                self.watches = True

    def parse_layout_entry(self, text: str) -> tuple[str, tuple[str | None, str | None]]:
        """Return a glob, and the kinds of weight and activation, None where they are as everywhere."""
        glob, _, kind_names = text.rpartition(":")
        names = kind_names.split("/")
        if not glob or len(names) > 2 or not {*names} <= self.kinds.keys():
            known = ", ".join(self.kinds)
            raise ValueError(f"layout={text} is no glob:kind or glob:kind/kind of the kinds there are: {known}")
        return glob, (names[0], names[1] if len(names) == 2 else None)

    def find_formats(self, name: str) -> tuple[MakeFormat | None, MakeFormat | None]:
        """Return the formats of a Linear's weight and of its input, None for floats."""
        weight, activation = next((pair for glob, pair in self.layout if fnmatchcase(name, glob)), (None, None))
        return (
            self.kinds[weight] if weight else self.weight,
            self.kinds[activation] if activation else self.activation,
        )

    def check_compatible(self, steps: int) -> None:
        if self.start > steps:
            raise ValueError(f"start={self.start} is after steps={steps}; try {steps}, after training")
        if self.watches and self.start < 2:
            raise ValueError(f"start={self.start} leaves no step to watch activations; try {min(100, steps)}")

    def __call__(self, decoder: "Decoder", seed: int = 0) -> "Decoder":
        targets = self.find_unpacked_linears(decoder)
        unmatched = find_unmatched([glob for glob, _ in self.layout], targets)
        if unmatched:
            raise ValueError(f"layout={','.join(unmatched)} fits none of the targets; leave it out, or widen targets")
        quantizer = Quantizer(self.start)
        for name, linear in targets.items():
            weight, activation = self.find_formats(name)
            if weight:
                if parametrize.is_parametrized(linear, "weight") and not _keeps_zero(weight):
                    raise ValueError(
                        f"weight: its format has no 0, and {name} may be pruned; put quantize before prune"
                    )
                rounding = quantizer.add_rounding(linear, "weight", weight())
                parametrize.register_parametrization(linear, "weight", rounding)
            if activation:  # `reading` is a key of checkpoints
                linear.add_module("reading", quantizer.add_rounding(linear, "reading", activation()))
                # a hook, so that the Linear stays one: other changes and counts find it
                linear.register_forward_pre_hook(_round_input)
        decoder.add_module("quantizing", quantizer)
        return decoder


def _keeps_zero(make: MakeFormat) -> bool:
    """Return whether a format has a 0 beside other values; on the CPU, even where a decoder is only built on meta."""
    with torch.device("cpu"), torch.no_grad():  # a tensor on meta has no item()
        return make()(torch.tensor([[0.0, 1.0]]))[0, 0].item() == 0


def _make_activation_format(path: str, make: MakeFormat) -> Format:
    """Return a format for activations; raises ValueError for one in which later tokens change earlier ones."""
    with torch.device("cpu"):
        format = make()
        try:
            format(torch.zeros(1, 1, 1))
        except ValueError as error:
            raise ValueError(f"{path}.{error}") from error
    return format


def _round_input(linear: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
    """Round the input of a Linear: a forward pre-hook."""
    return (linear.reading(args[0]),)  # type: ignore[operator]


class Rounding(nn.Module):
    """A format that is off, watches, or is on."""

    def __init__(self, format: Format, state: int) -> None:
        super().__init__()
        self.format, self.state = format, state

    def forward(self, x: Tensor) -> Tensor:
        if self.state == WATCHING:
            self.format.watch(x)
        return self.format(x) if self.state == ON else x


class Quantizer(ChangeModule):
    """Turns all roundings on, and keeps in the checkpoint that it did.

    roundings  (Linear, `weight` or `reading`, rounding) of all targets
    """

    def __init__(self, start: int) -> None:
        super().__init__()
        self.start, self.state = start, OFF if start else ON
        self.roundings: list[tuple[nn.Linear, str, Rounding]] = []

    def add_rounding(self, linear: nn.Linear, operand: str, format: Format) -> Rounding:
        """Add and return the rounding of a Linear's `weight`, or of its input (`reading`)."""
        rounding = Rounding(format, self.state)
        self.roundings.append((linear, operand, rounding))
        return rounding

    def set_state(self, state: int) -> None:
        """Set all roundings to OFF, WATCHING or ON."""
        self.state = state
        for *_, rounding in self.roundings:
            rounding.state = state

    def after_step(self, step: int) -> None:
        """Watch for some steps, then round. The first step is 0."""
        steps_done = step + 1
        if steps_done == self.start:
            self.set_state(ON)
        # the last steps before: activations of an early model have another range
        elif steps_done == max(1, self.start - WATCH_STEPS) < self.start:
            self.set_state(WATCHING)

    # torch puts it into the state dict: a checkpoint knows whether it rounds
    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.state, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        self.set_state(int(state))

    @property
    def mergeable(self) -> bool:
        return not any(operand == "reading" for _, operand, _ in self.roundings)

    def to_plain_module(self) -> nn.Module:
        return nn.Identity()

    def summary_metrics(self) -> dict[str, float]:
        """Return the mean bits of the weights that are rounded, and of the inputs that are."""
        metrics = {}
        for operand, name in (("weight", "weight_bits"), ("reading", "activation_bits")):
            total_bits, count = 0.0, 0
            for linear, rounded, rounding in self.roundings:
                if rounded == operand and rounding.state == ON:
                    # weighed by how many numbers there are: of a weight all, of an input those of one token
                    size = linear.in_features * (linear.out_features if operand == "weight" else 1)
                    total_bits += size * rounding.format.bits(linear.in_features)
                    count += size
            if count:
                metrics[name] = total_bits / count
        return metrics
