"""Decoders timed against each other: in one process, in turn, the baseline also against itself.

Neighbours and heat change a machine from minute to minute, so arms take turns in an order drawn anew each round, and
nothing smaller than what the baseline differs from itself is believed.
"""

import random
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch

from gptlab.build import build_decoder
from gptlab.config.factory import factory
from gptlab.config.recipe import Recipe
from gptlab.corpus.corpus import Corpus
from gptlab.generation.generate import generate
from gptlab.training.cost.training_step import take_training_step

TWIN = "A/A"
STEP, WRITE = "time/step_ms", "time/generate_ms_per_token"
LEAST = 0.02
"""Seconds that one turn takes at least: shorter ones are repeated."""
MOST_ROUNDS = 40


class Place:
    """The device, threads and precision of a recipe's trainer."""

    def __init__(self, recipe: Recipe) -> None:
        trainer = factory(recipe.config["trainer"], "trainer")()
        self.device = torch.device("cuda" if trainer.accelerator == "gpu" else "cpu")
        if self.device.type == "cpu":
            torch.set_num_threads(trainer.threads)
        self.wide = trainer.precision != "bf16-mixed"

    def numerics(self) -> Any:
        """The precision of training."""
        return nullcontext() if self.wide else torch.autocast(self.device.type, torch.bfloat16)


class Bench:
    """A decoder with its optimiser and a batch, at its trainer's device and precision. Steps do not learn (lr = 0)."""

    def __init__(self, recipe: Recipe, corpus: Corpus) -> None:
        self.settings = recipe.settings
        place = Place(recipe)
        self.device, self.numerics = place.device, place.numerics
        self.decoder = build_decoder(recipe, corpus.tokenizer.vocab).to(self.device).train()
        self.optimizer = factory(recipe.config["optimizer"], "optimizer")(self.decoder.trainable_parameters(), lr=0.0)
        rows = corpus.batch(self.settings.seed, 0, self.settings.batch_size, self.settings.model.context)
        self.batch = torch.from_numpy(rows).to(self.device)

    def step(self) -> None:
        """One optimiser step."""
        take_training_step(self.decoder, self.optimizer, self.batch, self.settings.accumulate, self.numerics)

    def write(self, length: int) -> None:
        """Writes one text of so many tokens, with caches."""
        with self.numerics():
            for _ in generate(self.decoder, self.batch[:1, :1], length):
                pass


def session(
    benches: dict[str, Bench], again: dict[str, str], seconds: float, rounds: int = MOST_ROUNDS
) -> dict[str, dict[str, list[float]]]:
    """Milliseconds a step and a token: for each arm a number a round, and for those that are timed `again` by another
    name."""
    arms = {**benches, **{name: benches[arm] for name, arm in again.items()}}
    length = {name: bench.settings.model.context for name, bench in arms.items()}
    steps = turns({name: bench.step for name, bench in arms.items()}, 0.75 * seconds, rounds)
    writes = turns(
        {name: lambda n=name, b=bench: b.write(length[n]) for name, bench in arms.items()}, 0.25 * seconds, rounds
    )
    return {STEP: steps, WRITE: {name: [ms / length[name] for ms in found] for name, found in writes.items()}}


def turns(acts: Mapping[str, Callable[[], object]], seconds: float, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each act, once a round, until the time or the rounds are up; the warm-up is not counted."""
    began = time.perf_counter()
    repeats = {name: repeated(act) for name, act in acts.items()}
    found: dict[str, list[float]] = {name: [] for name in acts}
    order, draws = sorted(acts), random.Random(0)
    for number in range(rounds):
        if number >= 3 and (time.perf_counter() - began) * (number + 1) / number > seconds:
            break
        draws.shuffle(order)
        for name in order:
            found[name].append(milliseconds(acts[name], repeats[name]))
    return found


def repeated(act: Callable[[], object]) -> int:
    """Warms up, and says how often an act must be repeated to be timed."""
    act()
    once = max(milliseconds(act, 1), 1e-3) / 1000
    return max(1, round(LEAST / once))


def milliseconds(act: Callable[[], object], times: int) -> float:
    """Of one act, as the mean of some."""
    synchronize()
    start = time.perf_counter()
    for _ in range(times):
        act()
    synchronize()
    return (time.perf_counter() - start) * 1000 / times


def synchronize() -> None:
    """Waits for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def here(recipe: Recipe) -> str:
    """The device that a recipe would run on here, in the words of a run's summary."""
    trainer = factory(recipe.config["trainer"], "trainer")()
    if trainer.accelerator == "gpu":
        return torch.cuda.get_device_name()
    return f"cpu, {trainer.threads} thread{'s' if trainer.threads > 1 else ''}"
