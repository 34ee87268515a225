"""Fake quantisation: weights, and what the Linears read, rounded to a number format and kept in floats.

    y = Q_w(W) Q_a(x) + b

start says which of two questions is asked. At 0, or after some steps, training goes on under the rounding, whose
gradient passes straight through (QAT, Jacob 2017, arXiv:1712.05877). After the last step, start=${steps}, the weights
are those of a float training, and what is judged is how they take it (PTQ). A format that fits its range to activations
watches those of the last steps before.
"""

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gptlab.weights.change import Change, Part
from gptlab.weights.format import Format

if TYPE_CHECKING:
    from gptlab.model.decoder import Decoder

Make = Callable[..., Format]
FLOAT = "float"
"""The kind of what is left as it is."""
WATCHED = 20
"""Steps before the start at which activations are watched."""
OFF, WATCHING, ON = range(3)


class Quantize(Change):
    """weight, activation: a format, or null for floats. layout: what differs by layer, in entries glob:kind for the
    weight, or glob:kind/kind for weight and activation; the first that fits holds. kinds: formats by name; `float` is
    one besides. start: steps after which it rounds."""

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
        self.kinds: dict[str, Make | None] = {**(kinds or {}), FLOAT: None}
        self.layout = [self.entry(one) for one in layout or ()]
        if not (weight or activation or any(any(pair) for _, pair in self.layout)):
            raise ValueError("weight=null and activation=null round nothing; give one of them a format, or a layout")
        reading = {f"kinds.{name}": self.kinds[name] for _, (_, name) in self.layout if name}
        self.watches = any(
            _tried(path, make).watches for path, make in {"activation": activation, **reading}.items() if make
        )

    def entry(self, text: str) -> tuple[str, tuple[str | None, str | None]]:
        """A glob, and the kinds of weight and activation; none where they are as everywhere."""
        glob, _, named = text.rpartition(":")
        names = named.split("/")
        if not glob or len(names) > 2 or not {*names} <= self.kinds.keys():
            known = ", ".join(self.kinds)
            raise ValueError(f"layout={text} is no glob:kind or glob:kind/kind of the kinds there are: {known}")
        return glob, (names[0], names[1] if len(names) == 2 else None)

    def formats(self, name: str) -> tuple[Make | None, Make | None]:
        """The formats of a Linear's weight and of what it reads."""
        weight, activation = next((pair for glob, pair in self.layout if fnmatchcase(name, glob)), (None, None))
        return (
            self.kinds[weight] if weight else self.weight,
            self.kinds[activation] if activation else self.activation,
        )

    def meet(self, steps: int) -> None:
        if self.start > steps:
            raise ValueError(f"start={self.start} is after steps={steps}; try {steps}, after training")
        if self.watches and self.start < 2:
            raise ValueError(f"start={self.start} leaves no step to watch activations; try {min(100, steps)}")

    def __call__(self, decoder: "Decoder", seed: int = 0) -> "Decoder":
        targets = self.weights(decoder)
        idle = [glob for glob, _ in self.layout if not any(fnmatchcase(name, glob) for name in targets)]
        if idle:
            raise ValueError(f"layout={','.join(idle)} fits none of the targets; leave it out, or widen targets")
        quantizing = Quantizing(self.start)
        for name, linear in targets.items():
            weight, reading = self.formats(name)
            if weight:
                if parametrize.is_parametrized(linear, "weight") and _says(weight, 0.0):
                    raise ValueError(
                        f"weight: its format has no 0, and {name} may be pruned; put quantize before prune"
                    )
                parametrize.register_parametrization(linear, "weight", quantizing.add(linear, "weight", weight()))
            if reading:
                linear.add_module("reading", quantizing.add(linear, "reading", reading()))
                linear.register_forward_pre_hook(_read)
        decoder.add_module("quantizing", quantizing)
        return decoder


def _says(make: Make, value: float) -> float:
    """What a format says of a number; on the CPU, also where a decoder is only sketched."""
    with torch.device("cpu"), torch.no_grad():
        return make()(torch.tensor([[value]])).item()


def _tried(path: str, make: Make) -> Format:
    """A format for activations; one that would look ahead is refused."""
    with torch.device("cpu"):
        made = make()
        try:
            made(torch.zeros(1, 1, 1))
        except ValueError as error:
            raise ValueError(f"{path}.{error}") from error
    return made


def _read(linear: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
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


class Quantizing(Part):
    """What turns all roundings on, and remembers in a checkpoint that it did."""

    def __init__(self, start: int) -> None:
        super().__init__()
        self.start, self.state = start, OFF if start else ON
        self.roundings: list[tuple[nn.Linear, str, Rounding]] = []

    def add(self, linear: nn.Linear, what: str, format: Format) -> Rounding:
        """The rounding of what a Linear is or reads: weight, reading."""
        made = Rounding(format, self.state)
        self.roundings.append((linear, what, made))
        return made

    def turn(self, state: int) -> None:
        """All off, watching, or on."""
        self.state = state
        for *_, one in self.roundings:
            one.state = state

    def after_step(self, step: int) -> None:
        """Watches for some steps, then rounds. The first step is 0."""
        done = step + 1
        if done == self.start:
            self.turn(ON)
        elif done == max(1, self.start - WATCHED) < self.start:
            self.turn(WATCHING)

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.state, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        self.turn(int(state))

    @property
    def folds(self) -> bool:
        return not any(what == "reading" for _, what, _ in self.roundings)

    def merged(self) -> nn.Module:
        return nn.Identity()

    def tell(self) -> dict[str, float]:
        """Mean bits of the weights that are rounded, and of the values that Linears read rounded."""
        found = {}
        for what, name in (("weight", "weight_bits"), ("reading", "activation_bits")):
            these = [(linear, one.format) for linear, of, one in self.roundings if of == what and one.state == ON]
            sizes = [one.in_features * (one.out_features if what == "weight" else 1) for one, _ in these]
            bits = [format.bits(one.in_features) for one, format in these]
            if these:
                found[name] = sum(n * b for n, b in zip(sizes, bits, strict=True)) / sum(sizes)
        return found


@torch.no_grad()
def calibrate(decoder: "Decoder", batches: Iterable[Tensor]) -> "Decoder":
    """Turns on what waits for its start, its ranges fitted to the activations of tokens (B, T): PTQ without a run."""
    quantizing = [part for part in decoder.modules() if isinstance(part, Quantizing)]
    training = decoder.training
    decoder.eval()
    for state in (WATCHING, ON):
        for part in quantizing:
            part.turn(state)
        for tokens in batches if state == WATCHING else ():
            decoder(tokens)
    return decoder.train(training)
