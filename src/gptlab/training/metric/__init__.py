"""What an evaluation reports beside the loss: torchmetrics over scored tokens, or over the texts that a model wrote."""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

Split = Literal["train", "validation"]
ReadText = Callable[[Split], Iterator[str]]
"""The text of a split, in parts."""


class Scores(NamedTuple):
    """Scored target tokens, each (N,): their nats, the likeliest token, the target, its bytes of UTF-8."""

    nats: Tensor
    predicted: Tensor
    target: Tensor
    nbytes: Tensor


class TokenMetric(Metric):
    """One of the slot's two contracts: update(scores), as often as wanted; compute() to a number."""

    full_state_update = False

    def update(self, scores: Scores) -> None:
        """Adds scored tokens."""
        raise NotImplementedError


class Ratio(TokenMetric):
    """The sum of one thing over the sum of another."""

    above: Tensor
    below: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("above", "below"):
            self.add_state(name, Tensor([0.0]).double().squeeze(), dist_reduce_fx="sum")

    def compute(self) -> Tensor:
        return self.above / self.below


class TextMetric(Metric):
    """The other contract: __init__(read, *, knobs); score(text) to a number. A metric is the mean over its texts."""

    full_state_update = False
    scores: list[Tensor]

    def __init__(self, read: ReadText) -> None:
        super().__init__()
        self.read = read
        self.add_state("scores", [], dist_reduce_fx="cat")

    def score(self, text: str) -> float:
        """What one text is worth."""
        raise NotImplementedError

    def update(self, texts: Sequence[str]) -> None:
        """Adds texts, without the prompt that they continue."""
        self.scores.append(torch.tensor([self.score(text) for text in texts], dtype=torch.float64))

    def compute(self) -> Tensor:
        return self.gather_scores().mean()

    def gather_scores(self) -> Tensor:
        """(texts,): the score of each."""
        return dim_zero_cat(self.scores)
