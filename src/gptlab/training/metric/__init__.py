"""Metrics that an evaluation reports beside the loss: torchmetrics over scored tokens, generated texts, or tasks."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from gptlab.config.factory import Factory, factory
from gptlab.corpus.task_files import list_task_files, name_task
from gptlab.corpus.tokenizer import Tokenizer
from gptlab.generation.likelihood import Continuation
from gptlab.model.decoder import Decoder

Split = Literal["train", "validation"]
ReadText = Callable[[Split], Iterator[str]]
"""Function that yields the text of a split, in parts."""


class Scores(NamedTuple):
    """Scored target tokens, each field (N,).

    nats       negative log-likelihood of the target
    predicted  the likeliest token
    target     the target token
    nbytes     its bytes of UTF-8
    """

    nats: Tensor
    predicted: Tensor
    target: Tensor
    nbytes: Tensor


class TokenMetric(Metric):
    """Contract of a metric of tokens: update(scores), as often as wanted; compute() to a number.

    needs_text  whether it is of bytes or words, which the symbols of a synthetic task have not
    """

    full_state_update = False
    needs_text = False

    def update(self, scores: Scores) -> None:
        """Add scored tokens."""
        raise NotImplementedError


class Ratio(TokenMetric):
    """Ratio of two sums over tokens, `above` / `below`, which `update` adds to."""

    above: Tensor
    below: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("above", "below"):
            self.add_state(name, Tensor([0.0]).double().squeeze(), dist_reduce_fx="sum")

    def compute(self) -> Tensor:
        return self.above / self.below


class TextMetric(Metric):
    """Contract of a metric of texts: __init__(read, *, knobs); score(text) to a number. It is the mean over texts."""

    # a text's score depends on no other text, so torchmetrics need not replay earlier ones
    full_state_update = False
    needs_text = True
    # one tensor an update, joined over processes by "cat"
    scores: list[Tensor]

    def __init__(self, read: ReadText) -> None:
        super().__init__()
        self.read = read
        self.add_state("scores", [], dist_reduce_fx="cat")

    def score(self, text: str) -> float:
        """Return the score of one text."""
        raise NotImplementedError

    def update(self, texts: Sequence[str]) -> None:
        """Add texts, without the prompt that they continue."""
        self.scores.append(torch.tensor([self.score(text) for text in texts], dtype=torch.float64))

    def compute(self) -> Tensor:
        return self.gather_scores().mean()

    def gather_scores(self) -> Tensor:
        """Return the score of each text, (texts,), over all processes."""
        return dim_zero_cat(self.scores)


class AnswerMetric(Metric):
    """Contract of a metric of a synthetic task's answers as a decoder writes them: __init__(corpus), and update.

    right       of each question that was answered, 1.0 or 0.0, (N,)
    difficulty  of the same, as the task names it, (N,) each
    """

    full_state_update = False
    needs_text = False
    writes_answers = True
    right: np.ndarray
    difficulty: dict[str, np.ndarray]

    def update(self, decoder: Decoder, count: int) -> None:
        """Let a decoder answer the first `count` questions of the validation split."""
        raise NotImplementedError

    def compute(self) -> Tensor:
        return torch.tensor(self.right.mean(), dtype=torch.float64)


class TaskMetric(Metric):
    """Contract of a metric of downstream tasks: __init__(tokenizer, *, path, knobs); score(decoder, items) to a number.

    A file is a task; the metric is the mean over tasks. A subclass says what a file holds (`read`), which tokens an
    item of it is (`encode`), and scores these. All is read and made into tokens at once, so that what cannot be is
    refused before training.
    """

    full_state_update = False
    needs_text = True
    values: dict[str, float]

    def __init__(self, tokenizer: Tokenizer, *, path: str | list[str] | None = None) -> None:
        super().__init__()
        self.items: dict[str, list[Any]] = {}
        for file in self.list_files(path):
            self.items[name_task(file)] = self.encode(tokenizer, self.read(file), file)
        self.values = {}

    @classmethod
    def list_files(cls, path: str | list[str] | None) -> list[Path]:
        """Return the files of the tasks; raise Refused for one that is not there."""
        return list_task_files(path, "path")

    @classmethod
    def read(cls, file: Path) -> list[Any]:
        """Return the rows of a file."""
        raise NotImplementedError

    def encode(self, tokenizer: Tokenizer, rows: list[Any], file: Path) -> list[Any]:
        """Return the items of a task, made into tokens."""
        raise NotImplementedError

    def score(self, decoder: Decoder, items: list[Any]) -> float:
        """Return the score of a decoder in one task."""
        raise NotImplementedError

    def list_continuations(self, items: list[Any]) -> list[Continuation]:
        """Return the texts that `score` reads, for estimates of its time; those of an empty list are not counted."""
        return []

    def update(self, decoder: Decoder) -> None:
        """Score a decoder in every task."""
        self.values = {name: self.score(decoder, items) for name, items in self.items.items()}

    def compute(self) -> Tensor:
        return torch.tensor([*self.values.values()], dtype=torch.float64).mean()


def check_task_files(nodes: dict[str, Any]) -> None:
    """Read the files of all metrics of tasks, by name; raise Refused for the first line that cannot be used."""
    for metric in _find_task_metrics(nodes).values():
        target: Any = metric.target
        for file in metric.call(target.list_files, metric.knobs["path"]):
            # reading is the check; a run reads the file once more
            target.read(file)


def build_task_metrics(nodes: dict[str, Any], tokenizer: Tokenizer) -> dict[str, TaskMetric]:
    """Build the metrics of tasks among all metrics, by name; raise Refused for a text that the tokenizer has not."""
    return {name: metric(tokenizer) for name, metric in _find_task_metrics(nodes).items()}


def _find_task_metrics(nodes: dict[str, Any]) -> dict[str, Factory]:
    metrics = {name: factory(node, f"metric.{name}") for name, node in nodes.items()}
    return {
        name: metric
        for name, metric in metrics.items()
        if isinstance(metric.target, type) and issubclass(metric.target, TaskMetric)
    }
