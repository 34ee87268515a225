"""Share of minimal pairs in which the right sentence is likelier than the wrong one, as wholes (BLiMP).

    accuracy = share of pairs with log p(good) > log p(bad)

A sentence stands after a new line. Guessing gives one half. Source: Warstadt et al. 2020, arXiv:1912.00582; a file of
its data is one of its 67 paradigms, and of several files the metric is the mean.
"""

import statistics
from pathlib import Path

from gptlab.corpus.continuations import encode_pairs, score_pairs
from gptlab.corpus.task_files import MinimalPair, read_pairs
from gptlab.corpus.tokenizer import Tokenizer
from gptlab.generation.likelihood import Continuation
from gptlab.model.decoder import Decoder
from gptlab.training.metric import TaskMetric


class MinimalPairs(TaskMetric):
    """Accuracy in minimal pairs, in [0, 1]; equally likely sentences count as wrong.

    path  a file of JSON lines with sentence_good and sentence_bad, or several
    """

    def __init__(self, tokenizer: Tokenizer, *, path: str | list[str] | None = None) -> None:
        super().__init__(tokenizer, path=path)

    @classmethod
    def read(cls, file: Path) -> list[MinimalPair]:
        return read_pairs(file)

    def encode(self, tokenizer: Tokenizer, rows: list[MinimalPair], file: Path) -> list[Continuation]:
        return encode_pairs(tokenizer, rows, str(file))

    def score(self, decoder: Decoder, items: list[Continuation]) -> float:
        return statistics.fmean(score_pairs(decoder, items))

    def list_continuations(self, items: list[Continuation]) -> list[Continuation]:
        return items
