"""A number format for each Linear of a trained run: which layers bear few bits, and what mixing formats is worth.

alone      one Linear rounded at a time: what its loss changes by; the cheap look before the search
<family>   a search in which each Linear is float or of one family: int4 and int8 are of int, mxfp4 and mxfp8 of mxfp
mixed      a search over all of them

A trial is judged by its loss and price times its mean bits a weight, or by its loss alone among those within most_bits.
It is suggested by optuna's TPE, after these: every Linear alike, in each format; and for each what was best alone.
Nothing is trained, weights alone are rounded. Searches choose on the first half of the validation tokens that are read;
`test loss` is that of the second half. Mean bits count what blocks and rows share; a float has 32.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gptlab.config.recipe import Recipe
from gptlab.errors import Refused
from gptlab.stats.measurements import Row
from gptlab.study import Build, Study
from gptlab.weights.format import Format

if TYPE_CHECKING:
    import optuna
    from torch import Tensor

    from gptlab.model.decoder import Decoder

FLOAT, MIXED = "float", "mixed"
FLOAT_BITS = 32.0
DRAWN = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500)
"""Trials at which the best so far is told."""
BEYOND = 100.0
"""Nats for each bit above most_bits."""


class MixedPrecision(Study):
    """run: a run folder. kinds: formats by name, whose letters are their family. trials: of each search. price: nats
    that a bit costs. most_bits: on average, or null. tokens: of the validation split, both halves."""

    def __init__(
        self,
        *,
        run: str | None = None,
        kinds: dict[str, Callable[..., Format]],
        trials: int = 50,
        price: float = 0.01,
        most_bits: float | None = None,
        tokens: int = 16384,
    ) -> None:
        if run is None:
            raise ValueError("run is missing: a trained run is rounded; say study.run=outputs/runs/RUN")
        if not kinds or FLOAT in kinds:
            raise ValueError(f"kinds={[*kinds]} must name formats, none of them {FLOAT}")
        for name, least, value in (("trials", 1, trials), ("tokens", 1, tokens), ("price", 0, price)):
            if value < least:
                raise ValueError(f"{name}={value} is less than {least}; give {least} or more")
        self.run, self.kinds, self.trials, self.price = run, kinds, trials, price
        self.most_bits, self.tokens = most_bits, tokens

    def check(self, arms: dict[str, Recipe]) -> None:
        try:
            import optuna as optuna
        except ModuleNotFoundError as error:
            raise Refused("study=mixed_precision needs optuna; run: pip install 'gptlab[search]'") from error
        if len(arms) > 1:
            raise Refused("study=mixed_precision rounds one run, which has its own model; leave the axes out")
        if not (Path(self.run) / "config.yaml").exists():
            raise Refused(f"study.run={self.run} is no run folder; give outputs/runs/RUN")

    def __call__(self, arms: dict[str, Recipe], block: int, build: Build, folder: Path) -> list[Row]:
        import torch

        from gptlab.config.factory import factory
        from gptlab.corpus.load import read_corpus
        from gptlab.restore import load_run
        from gptlab.runs.record import read_recipe
        from gptlab.weights.change import merge

        recipe = read_recipe(Path(self.run))
        torch.set_num_threads(factory(next(iter(arms.values())).config["trainer"], "trainer")().threads)
        windows = read_corpus(recipe).windows(recipe.settings.model.context, self.tokens)
        given, wanted = (torch.from_numpy(one[0 : len(one)]) for one in windows)
        rounded = Rounded(merge(load_run(self.run)[0]).eval(), self.kinds, given, wanted)
        alone = {
            (name, kind): rounded.loss({name: kind}) - rounded.loss({})
            for name in rounded.linears
            for kind in self.kinds
        }
        rows = [Row(name, block, f"alone {kind}", change) for (name, kind), change in alone.items()]
        families = dict.fromkeys(map(family_of, self.kinds))
        for family in [*families, MIXED]:
            mine = [kind for kind in self.kinds if family in (MIXED, family_of(kind))]
            rows += self.searched(family, mine, rounded, alone, block)
        return [Row(FLOAT, block, metric, value) for metric, value in self.told(rounded, {}).items()] + rows

    def told(self, rounded: "Rounded", layout: dict[str, str]) -> dict[str, float]:
        """What a layout comes to."""
        return {
            "test loss": rounded.loss(layout, test=True),
            "loss": rounded.loss(layout),
            "mean bits": rounded.bits(layout),
            "objective": self.objective(rounded, layout),
        }

    def objective(self, rounded: "Rounded", layout: dict[str, str]) -> float:
        """What a search minimises."""
        bits = rounded.bits(layout)
        if self.most_bits is None:
            return rounded.loss(layout) + self.price * bits
        return rounded.loss(layout) + BEYOND * max(0.0, bits - self.most_bits)

    def searched(
        self, family: str, kinds: list[str], rounded: "Rounded", alone: dict[tuple[str, str], float], block: int
    ) -> list[Row]:
        """One search: its best layout, and the best so far on the way."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        found = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=block, multivariate=True))
        choices = [FLOAT, *kinds]

        def cost(name: str, kind: str) -> float:
            share = rounded.linears[name].weight.numel() / rounded.numbers
            return (alone[name, kind] if kind != FLOAT else 0.0) + self.price * share * rounded.width(name, kind)

        for kind in kinds:
            found.enqueue_trial(dict.fromkeys(rounded.linears, kind))
        found.enqueue_trial({name: min(choices, key=lambda kind: cost(name, kind)) for name in rounded.linears})

        def judged(trial: "optuna.Trial") -> float:
            return self.objective(rounded, {name: trial.suggest_categorical(name, choices) for name in rounded.linears})

        found.optimize(judged, n_trials=self.trials)
        values = [trial.value for trial in found.trials if trial.value is not None]
        rows = [Row(family, block, metric, value) for metric, value in self.told(rounded, found.best_params).items()]
        steps = [at for at in DRAWN if at <= self.trials]
        return rows + [Row(f"{family} trial={at}", block, "best objective", min(values[:at])) for at in steps]


def family_of(kind: str) -> str:
    """The name of a format as far as its first digit."""
    return re.split(r"\d", kind)[0]


class Rounded:
    """A decoder whose Linears take any of some formats: each is rounded once, and then exchanged."""

    def __init__(self, decoder: "Decoder", kinds: dict[str, Callable[..., Format]], given: "Tensor", wanted: "Tensor"):
        import torch
        from torch import nn

        self.decoder = decoder
        every = {name: part for name, part in decoder.blocks.named_modules() if isinstance(part, nn.Linear)}
        self.linears: dict[str, nn.Linear] = {f"blocks.{name}": part for name, part in every.items()}
        self.numbers = sum(part.weight.numel() for part in self.linears.values())
        self.formats = {kind: make() for kind, make in kinds.items()}
        with torch.no_grad():
            self.weights = {
                (name, kind): one(part.weight)
                for name, part in self.linears.items()
                for kind, one in self.formats.items()
            }
        self.weights |= {(name, FLOAT): part.weight.detach().clone() for name, part in self.linears.items()}
        self.halves = [*zip(given.tensor_split(2), wanted.tensor_split(2), strict=True)]
        self.known: dict[tuple[frozenset[tuple[str, str]], bool], float] = {}

    def width(self, name: str, kind: str) -> float:
        """Mean bits of a Linear's weights in a format."""
        return FLOAT_BITS if kind == FLOAT else self.formats[kind].bits(self.linears[name].in_features)

    def bits(self, layout: dict[str, str]) -> float:
        """Mean bits of all weights; what a layout does not name is float."""
        held = (self.width(name, layout.get(name, FLOAT)) * one.weight.numel() for name, one in self.linears.items())
        return sum(held) / self.numbers

    def loss(self, layout: dict[str, str], test: bool = False) -> float:
        """Nats a token on the half that chooses, or on the other."""
        import torch

        key = (frozenset(layout.items()), test)
        if key not in self.known:
            given, wanted = self.halves[test]
            with torch.inference_mode():
                for name, linear in self.linears.items():
                    linear.weight.copy_(self.weights[name, layout.get(name, FLOAT)])
                total = sum(
                    float(self.decoder.forward(a, b).loss) * len(a)  # type: ignore[arg-type]
                    for a, b in zip(given.split(32), wanted.split(32), strict=True)
                )
            self.known[key] = total / len(given)
        return self.known[key]
