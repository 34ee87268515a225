"""Metrics that an evaluation reports beside the loss: torchmetrics over scored tokens, or over generated texts."""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

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
