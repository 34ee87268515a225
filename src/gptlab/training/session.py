"""Everything that one run works with, made from its recipe."""

import re
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gptlab.config.factory import factory
from gptlab.config.recipe import Recipe
from gptlab.console.terminal import Terminal
from gptlab.corpus.corpus import Corpus
from gptlab.corpus.load import encode_prompt
from gptlab.errors import Ended
from gptlab.generation.generate import generate
from gptlab.model.compile_policy import at_once
from gptlab.model.decoder import Decoder
from gptlab.runs.record import RunFolder
from gptlab.runs.tracker import Tracker
from gptlab.training import memory as footprint
from gptlab.training.callback import Callback, Row
from gptlab.training.datamodule import Feed
from gptlab.training.distributed import Ranks
from gptlab.training.evaluate import evaluate
from gptlab.training.fit_callback import Rounds
from gptlab.training.metric import Scores, TextMetric, TokenMetric
from gptlab.training.peak_flops import peak
from gptlab.training.reference_texts import Texts
from gptlab.training.task import Task


@dataclass
class Session:
    """One run at work. `began` is when it was asked for, `fresh` says that it is not resumed."""

    recipe: Recipe
    record: RunFolder
    corpus: Corpus
    decoder: Decoder
    mirror: Tracker
    terminal: Terminal
    ranks: Ranks
    fresh: bool
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.settings, config = self.recipe.settings, self.recipe.config
        settings, context = self.settings, self.settings.model.context
        self.facts = self.record.read_facts()
        self.feed = Feed(
            self.corpus,
            seed=settings.seed,
            batch_size=settings.batch_size,
            context=context,
            accumulate=settings.accumulate,
        )
        self.task = Task(
            self.decoder,
            factory(config["optimizer"], "optimizer"),
            factory(config["schedule"], "schedule")(),
            seed=settings.seed,
            steps=settings.steps,
            accumulate=settings.accumulate,
            clip=settings.clip,
        )
        self.texts = Texts(self.corpus)
        self.metrics: dict[str, TokenMetric] = {}
        self.text_metrics: dict[str, TextMetric] = {}
        for name, node in config["metric"].items():
            make = factory(node, f"metric.{name}")
            if isinstance(make.target, type) and issubclass(make.target, TextMetric):
                self.text_metrics[name] = make(self.texts.read)
            else:
                self.metrics[name] = make()
                self.metrics[name].sync_on_compute = False  # all ranks score the same tokens
        rim = (self.record, self.mirror, self.terminal, self.ranks)
        self.rounds = Rounds(settings, *rim, self.evaluate_some, self.write_one)
        self.trainer: Any = self.ranks.trainer
        # The run's own comes last, so that what it saves knows of all rows that were written at the step.
        self.trainer.callbacks += [*build_callbacks(self.recipe, self.rounds.write_row), self.rounds]
        self.device: torch.device = self.trainer.strategy.root_device
        self.precision: str = factory(config["trainer"], "trainer")().precision
        footprint.begin(self.device)
        self.decoder.to(self.device)
        self.rounds.full_speed = self.full_speed
        self.compiled = False
        if self.facts.get("compiled", at_once(settings.compile, self.device.type)):
            self.compile()
        self.lengths = self.corpus.tokenizer.lengths()
        self.some = self.corpus.windows(context, settings.evaluation.tokens)
        self.all = self.corpus.windows(context)
        self.prompt = torch.from_numpy(encode_prompt(self.recipe, self.corpus).astype(np.int64)).to(self.device)

    @property
    def at(self) -> dict[str, int]:
        """The axes of every row: optimiser steps, and tokens trained on."""
        return {"step": self.rounds.step, "tokens": self.rounds.tokens}

    def values(self, scores: Scores) -> dict[str, float]:
        """The loss and all metrics of some scored tokens."""
        values = {"val/loss": scores.nats.double().mean().item()}
        self.task.refuse_bad_value(values["val/loss"], self.rounds.step)
        for name, metric in self.metrics.items():
            metric.to(scores.nats.device).reset()
            metric.update(scores)
            values[f"val/{name}"] = float(metric.compute())
        return values

    def evaluate_some(self) -> dict[str, float]:
        """The interim evaluation, on the same tokens each time."""
        with self.numerics(), self.gathered():
            return self.values(evaluate(self.decoder, *self.some, self.lengths))

    def write(
        self, count: int, length: int, *, seed: int | None = None, cached: bool | None = None
    ) -> list[dict[str, Any]]:
        """Samples, drawn with the run's seed and the settings unless others are given, and how they were drawn."""
        sample = self.settings.sample
        seed = self.settings.seed if seed is None else seed
        drawn = generate(
            self.decoder,
            self.prompt[None].expand(count, -1),
            length,
            temperature=sample.temperature,
            top_k=sample.top_k,
            top_p=sample.top_p,
            seed=seed,
            cached=sample.cached if cached is None else cached,
        )
        decode = self.corpus.tokenizer.decode
        told = {
            "prompt": decode(self.prompt.cpu().numpy()),
            "seed": seed,
            "temperature": sample.temperature,
        }
        return [{**self.at, **told, "text": decode(row)} for row in torch.stack(list(drawn), 1).cpu().numpy()]

    def write_one(self) -> dict[str, Any]:
        """The sample of an interim evaluation, from the same random draws each time."""
        with self.gathered():
            return self.write(1, self.settings.sample.length)[0]

    @property
    def params(self) -> int:
        """Parameters, a tied one once."""
        return sum(p.numel() for p in self.decoder.parameters())

    @property
    def params_trainable(self) -> int:
        """Parameters that learn."""
        return sum(p.numel() for _, p in self.decoder.trainable_parameters())

    @property
    def flops_per_token(self) -> float:
        """Matmul FLOPs of training on one token."""
        context = self.settings.model.context
        return self.decoder.training_flops(context) / context

    @property
    def full_speed(self) -> float | None:
        """Tokens a second at the peak of all GPUs together, if it is known."""
        most = peak(self.device_name, self.precision) if self.device.type == "cuda" else None
        return most and most * self.ranks.size / self.flops_per_token

    def numerics(self) -> AbstractContextManager[None]:
        """The precision of training; its steps have it from Lightning."""
        return self.trainer.precision_plugin.forward_context()

    @property
    def shared(self) -> bool:
        """True if the decoder's weights are in shares: trainer=fsdp, once training has begun."""
        return hasattr(self.decoder, "unshard")

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """The weights outside the blocks in one piece, which a forward pass not called as training calls it misses."""
        decoder: Any = self.decoder
        if self.shared:
            decoder.unshard()
        yield
        if self.shared:
            decoder.reshard()

    @property
    def device_name(self) -> str:
        """The GPU's name, or the CPU with its threads."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name()
        threads = torch.get_num_threads()
        return f"cpu, {threads} thread{'s' if threads > 1 else ''}"

    def compile(self) -> None:
        """Compiles the decoder in place, so that its state dict keeps its keys."""
        self.compiled = True
        self.decoder.compile()

    def train(self, plan: dict[str, Any]) -> None:
        """Trains to the end, or to a signal, as the first rank planned: from which checkpoint (`path`), in how many
        `seconds`, and whether `compiled`."""
        self.task.seconds = plan["seconds"]
        if plan["compiled"] and not self.compiled:
            self.compile()
        try:
            self.trainer.fit(self.task, self.feed, ckpt_path=plan["path"], weights_only=True)
        except SystemExit as ended:  # what Lightning makes of a KeyboardInterrupt
            raise KeyboardInterrupt from ended
        except RuntimeError as error:
            if self.ranks.size == 1 or "peer" not in str(error):  # gloo's words
                raise
            raise Ended(f"another process of this run has died; {self.how_to_go_on()}") from error
        self.rounds.close()
        self.ranks.part()

    def how_to_go_on(self) -> str:
        """The command that resumes this run."""
        folder = str(self.record.path)
        if not re.fullmatch(r"[\w./+-]+", folder, re.ASCII):
            folder = shlex.quote(f'"{folder}"')  # for the shell, and then for hydra
        return f"go on with: python train.py resume={folder}"


def build_callbacks(recipe: Recipe, write_row: Callable[[int, Row], None]) -> list[Callback]:
    """Return the callbacks that a recipe lists, in order, connected to the run's rows."""
    callbacks = []
    for name, node in recipe.config["callback"].items():
        callback: Callback = factory(node, f"callback.{name}")()
        callback.name, callback.write_row = name, write_row
        callbacks.append(callback)
    return callbacks


def outputs(recipe: Recipe) -> Path:
    """Where runs live."""
    return Path(recipe.settings.outputs)
