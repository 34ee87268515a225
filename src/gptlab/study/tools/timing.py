"""Interleaved timing of decoders: in one process, in random order each round, the baseline also against itself.

Neighbours and heat change a machine from minute to minute, so the order is drawn anew each round, and nothing smaller
than the difference of the baseline from itself (A/A control) is believed.
"""

import random
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch

from gptlab.config.factory import factory
from gptlab.config.recipe import Recipe
from gptlab.corpus.batch import load_batch
from gptlab.corpus.corpus import Corpus
from gptlab.generation.generate import generate
from gptlab.model.eval_mode import eval_mode
from gptlab.training.build import build_decoder
from gptlab.training.cost.training_step import make_resting_optimizer, take_training_step

STEP_MS, GENERATE_MS = "time/step_ms", "time/generate_ms_per_token"
MIN_TURN_S = 0.02
"""Seconds that one measurement takes at least: shorter actions are repeated."""
MAX_ROUNDS = 40
MAX_TEXT_ROUNDS = 12
"""Of generated texts: each is a whole context, of as many tokens."""


class Placement:
    """The device, threads and precision of a recipe's trainer. On a CPU it sets torch's threads."""

    def __init__(self, recipe: Recipe) -> None:
        trainer = factory(recipe.config["trainer"], "trainer")()
        self.device = torch.device("cuda" if trainer.accelerator == "gpu" else "cpu")
        if self.device.type == "cpu":
            # as a run of this recipe would: threads change the time more than most arms do
            torch.set_num_threads(trainer.threads)
        self.full_precision = trainer.precision != "bf16-mixed"

    def numerics(self) -> Any:
        """Return the context of the training precision."""
        return nullcontext() if self.full_precision else torch.autocast(self.device.type, torch.bfloat16)


class TrainingBench:
    """A decoder with its optimiser and a batch, at its trainer's device and precision. Steps do not learn (lr = 0)."""

    def __init__(self, recipe: Recipe, corpus: Corpus) -> None:
        self.settings = recipe.settings
        placement = Placement(recipe)
        self.device, self.numerics = placement.device, placement.numerics
        self.decoder = build_decoder(recipe, corpus.tokenizer.vocab).to(self.device).train()
        make = factory(recipe.config["optimizer"], "optimizer")
        self.optimizer = make_resting_optimizer(make, self.decoder.trainable_parameters())
        settings = self.settings
        batch = load_batch(corpus, settings.seed, step=0, rows=settings.batch_size, context=settings.model.context)
        self.batch = batch.to(self.device)

    def step(self) -> None:
        """Take one optimizer step."""
        accumulate, numerics = self.settings.accumulate, self.numerics
        take_training_step(self.decoder, self.optimizer, self.batch, accumulate=accumulate, numerics=numerics)

    def generate_text(self, length: int) -> None:
        """Generate one text of `length` tokens, with caches."""
        # eval mode for all tokens at once: a switch and back at every token would be a fifth of the time
        with self.numerics(), eval_mode(self.decoder):
            for _ in generate(self.decoder, self.batch.inputs[:1, :1], length):
                pass


def time_benches(
    benches: dict[str, TrainingBench], controls: dict[str, str], seconds: float
) -> dict[str, dict[str, list[float]]]:
    """Time a training step and a generated token of each arm, and of each control {name: arm}.

    Returns milliseconds by metric and name, one a round.
    """
    arms = {**benches, **{name: benches[arm] for name, arm in controls.items()}}
    lengths = {name: bench.settings.model.context for name, bench in arms.items()}
    # steps have three quarters of the time: they are what a difference in speed is told of
    step_times = time_interleaved({name: bench.step for name, bench in arms.items()}, 0.75 * seconds, MAX_ROUNDS)
    writers = {name: lambda n=name, b=bench: b.generate_text(lengths[n]) for name, bench in arms.items()}
    text_times = time_interleaved(writers, 0.25 * seconds, MAX_TEXT_ROUNDS)
    token_times: dict[str, list[float]] = {}
    for name, times in text_times.items():
        token_times[name] = [ms / lengths[name] for ms in times]
    return {STEP_MS: step_times, GENERATE_MS: token_times}


def time_interleaved(
    actions: Mapping[str, Callable[[], object]], seconds: float, rounds: int
) -> dict[str, list[float]]:
    """Time each action once a round, in random order, until the seconds or the rounds are up.

    Returns milliseconds by action, one a round; the warm-up is not among them.
    """
    start = time.perf_counter()
    # each action by its own count, so that short ones are above the clock's resolution
    repeats = {name: count_repeats(action) for name, action in actions.items()}
    times: dict[str, list[float]] = {name: [] for name in actions}
    # the order is drawn from a seed, so that a session can be repeated
    order, generator = sorted(actions), random.Random(0)
    for number in range(rounds):
        # at least three rounds; then only if another one of the mean length so far still fits
        if number >= 3 and (time.perf_counter() - start) * (number + 1) / number > seconds:
            break
        generator.shuffle(order)
        for name in order:
            times[name].append(measure_ms(actions[name], repeats[name]))
    return times


def count_repeats(action: Callable[[], object]) -> int:
    """Warm an action up, and return how often it must be repeated to be timed."""
    action()
    seconds = max(measure_ms(action, 1), 1e-3) / 1000  # at least a microsecond, so that repeats stay finite
    return max(1, round(MIN_TURN_S / seconds))


def measure_ms(action: Callable[[], object], repeats: int) -> float:
    """Return the milliseconds of one action, as the mean of `repeats`."""
    synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        action()
    synchronize()
    return (time.perf_counter() - start) * 1000 / repeats


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def describe_device(recipe: Recipe) -> str:
    """Return the device that a recipe would run on in this process, in the words of a run's summary."""
    trainer = factory(recipe.config["trainer"], "trainer")()
    if trainer.accelerator == "gpu":
        return torch.cuda.get_device_name()
    return f"cpu, {trainer.threads} thread{'s' if trainer.threads > 1 else ''}"
