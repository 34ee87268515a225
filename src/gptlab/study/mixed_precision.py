"""A number format for each Linear of a trained run: which layers bear few bits, and what mixing formats is worth.

alone      change of the loss if one Linear alone is rounded; the cheap look before the search
<family>   a search in which each Linear is float or of one family: int4 and int8 are of int, mxfp4 and mxfp8 of mxfp
mixed      a search over all formats

A trial minimises its loss plus price times its mean bits a weight, or its loss alone among those within most_bits.
Trials are suggested by optuna's TPE, after these: every Linear alike, in each format; and for each Linear the format
that was best alone. Nothing is trained, weights alone are rounded. Searches choose on the first half of the validation
tokens that are read; `test loss` is that of the second half. Mean bits include what blocks and rows share; a float has
32.
"""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gptlab.config.recipe import Recipe
from gptlab.errors import Refused
from gptlab.stats.labels import label_arm
from gptlab.stats.measurements import Row
from gptlab.study import Build, Study
from gptlab.weights.format import Format

if TYPE_CHECKING:
    import optuna
    from torch import Tensor

    from gptlab.model.decoder import Decoder

FLOAT, MIXED = "float", "mixed"
FLOAT_BITS = 32.0
REPORTED_TRIALS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500)
"""Trials at which the best objective so far is a row."""
EXCESS_BIT_PENALTY = 100.0
"""Nats for each mean bit above most_bits."""


class MixedPrecision(Study):
    """Search a number format for each Linear of one run.

    run        a run folder; must be given
    kinds      formats by name; the letters of a name are its family
    trials     trials of each search
    price      nats that one mean bit costs
    most_bits  limit of the mean bits, which replaces the price; null sets none
    tokens     tokens of the validation split, both halves
    """

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
        from gptlab.corpus.corpus import read_windows
        from gptlab.corpus.load import read_corpus
        from gptlab.runs.record import read_recipe
        from gptlab.training.restore import load_run
        from gptlab.weights.change import merge

        recipe = read_recipe(Path(self.run))
        torch.set_num_threads(factory(next(iter(arms.values())).config["trainer"], "trainer")().threads)
        windows = read_windows(read_corpus(recipe), recipe.settings.model.context, self.tokens)
        inputs, targets = (torch.from_numpy(array) for array in windows)
        # changes are merged first: what is rounded is the weight that computes
        rounded = RoundedDecoder(merge(load_run(self.run)[0]).eval(), self.kinds, inputs, targets)
        # each Linear in each format once; what they do together is what the search is for
        alone: dict[tuple[str, str], float] = {}
        for name in rounded.linears:
            for kind in self.kinds:
                alone[name, kind] = rounded.measure_loss({name: kind}) - rounded.measure_loss({})
        rows = [Row(name, block, f"alone {kind}", change) for (name, kind), change in alone.items()]
        # a dict, as a set that keeps the order
        families = dict.fromkeys(map(find_family, self.kinds))
        for family in [*families, MIXED]:
            kinds = [kind for kind in self.kinds if family in (MIXED, find_family(kind))]
            rows += self.run_search(family, kinds, rounded=rounded, alone=alone, block=block)
        # first, since the first arm of the rows is the baseline
        unrounded = self.measure_layout(rounded, {})
        return [Row(FLOAT, block, metric, value) for metric, value in unrounded.items()] + rows

    def measure_layout(self, rounded: "RoundedDecoder", layout: dict[str, str]) -> dict[str, float]:
        """Return losses, mean bits and objective of a layout {Linear: format}."""
        return {
            "test loss": rounded.measure_loss(layout, test=True),
            "loss": rounded.measure_loss(layout),
            "mean bits": rounded.mean_bits(layout),
            "objective": self.compute_objective(rounded, layout),
        }

    def compute_objective(self, rounded: "RoundedDecoder", layout: dict[str, str]) -> float:
        """Return the objective of a search, which is minimised."""
        bits = rounded.mean_bits(layout)
        if self.most_bits is None:
            return rounded.measure_loss(layout) + self.price * bits
        # steep, not infinite: TPE learns from how far beyond the limit a layout is
        return rounded.measure_loss(layout) + EXCESS_BIT_PENALTY * max(0.0, bits - self.most_bits)

    def run_search(
        self,
        family: str,
        kinds: list[str],
        *,
        rounded: "RoundedDecoder",
        alone: dict[tuple[str, str], float],
        block: int,
    ) -> list[Row]:
        """Run one search, and return the rows of its best layout and of its best objective so far."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        # multivariate: Linears do not bear rounding independently
        search = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=block, multivariate=True))
        choices = [FLOAT, *kinds]

        def estimate_cost(name: str, kind: str) -> float:
            """Return the objective's change by one Linear, as if Linears added up."""
            # the loss's change if this Linear alone is rounded, plus the price of its part of the mean bits
            share = rounded.linears[name].weight.numel() / rounded.weight_count
            return (alone[name, kind] if kind != FLOAT else 0.0) + self.price * share * rounded.count_bits(name, kind)

        for kind in kinds:  # the first trials: one format for all Linears, then for each Linear the best alone
            search.enqueue_trial(dict.fromkeys(rounded.linears, kind))
        best_alone = {}
        for name in rounded.linears:
            best_alone[name] = min(choices, key=partial(estimate_cost, name))
        search.enqueue_trial(best_alone)

        def evaluate_trial(trial: "optuna.Trial") -> float:
            layout = {name: trial.suggest_categorical(name, choices) for name in rounded.linears}
            return self.compute_objective(rounded, layout)

        search.optimize(evaluate_trial, n_trials=self.trials)
        values = [trial.value for trial in search.trials if trial.value is not None]
        best = self.measure_layout(rounded, search.best_params)
        rows = [Row(family, block, metric, value) for metric, value in best.items()]
        for trials in REPORTED_TRIALS:
            if trials <= self.trials:
                pairs = (("", family), ("trial", str(trials)))
                rows.append(Row(label_arm(pairs), block, "best objective", min(values[:trials]), arm_values=pairs))
        return rows


def find_family(kind: str) -> str:
    """Return the name of a format up to its first digit."""
    return re.split(r"\d", kind)[0]


class RoundedDecoder:
    """A decoder whose Linears are rounded to any of some formats: each once, then copied in.

    weights        rounded weights by (Linear, format)
    weight_count   number of weights of all Linears
    halves         (inputs, targets) to choose by, and to test on
    cached_losses  losses by layout and half
    """

    def __init__(
        self, decoder: "Decoder", kinds: dict[str, Callable[..., Format]], inputs: "Tensor", targets: "Tensor"
    ):
        import torch
        from torch import nn

        self.decoder = decoder
        linears = {name: linear for name, linear in decoder.blocks.named_modules() if isinstance(linear, nn.Linear)}
        self.linears: dict[str, nn.Linear] = {f"blocks.{name}": linear for name, linear in linears.items()}
        # of blocks alone: embedding and head stay in floats
        self.weight_count = sum(linear.weight.numel() for linear in self.linears.values())
        self.formats = {kind: make() for kind, make in kinds.items()}
        self.weights: dict[tuple[str, str], Tensor] = {}
        with torch.no_grad():
            for name, linear in self.linears.items():
                for kind, round_to_format in self.formats.items():
                    self.weights[name, kind] = round_to_format(linear.weight)
                # a copy, since the Linear's own tensor is overwritten by each layout
                self.weights[name, FLOAT] = linear.weight.detach().clone()
        self.halves = [*zip(inputs.tensor_split(2), targets.tensor_split(2), strict=True)]
        self.cached_losses: dict[tuple[frozenset[tuple[str, str]], bool], float] = {}

    def count_bits(self, name: str, kind: str) -> float:
        """Return the mean bits of a Linear's weights in a format."""
        return FLOAT_BITS if kind == FLOAT else self.formats[kind].bits(self.linears[name].in_features)

    def mean_bits(self, layout: dict[str, str]) -> float:
        """Return the mean bits of all weights; Linears that the layout does not name are float."""
        total = 0.0
        for name, linear in self.linears.items():
            total += self.count_bits(name, layout.get(name, FLOAT)) * linear.weight.numel()
        return total / self.weight_count

    def measure_loss(self, layout: dict[str, str], test: bool = False) -> float:
        """Return nats a token on the half that chooses, or on the other one (`test`)."""
        import torch

        # TPE suggests some layouts again, and a pass is dear
        key = (frozenset(layout.items()), test)
        if key not in self.cached_losses:
            inputs, targets = self.halves[test]
            with torch.inference_mode():
                for name, linear in self.linears.items():
                    # copied in, not rounded again: a layout costs one pass
                    linear.weight.copy_(self.weights[name, layout.get(name, FLOAT)])
                total = 0.0
                for some_inputs, some_targets in zip(inputs.split(32), targets.split(32), strict=True):
                    loss = self.decoder.forward(some_inputs, some_targets).loss
                    total += float(loss) * len(some_inputs)  # type: ignore[arg-type]
            self.cached_losses[key] = total / len(inputs)
        return self.cached_losses[key]
