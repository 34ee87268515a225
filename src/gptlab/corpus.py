"""Tokens in, batches out: every batch is a pure function of (seed, step)."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gptlab.data import Data
from gptlab.readout import IGNORED
from gptlab.refused import Refused
from gptlab.tokenizer import Tokenizer


@dataclass(frozen=True)
class Corpus:
    """The tokens of both splits, the tokenizer, and the sha256 of the text."""

    train: np.ndarray
    validation: np.ndarray
    tokenizer: Tokenizer
    sha256: str

    def batch(self, seed: int, step: int, rows: int, context: int) -> np.ndarray:
        """(rows, context + 1) training tokens at random places, the same for this seed and step wherever asked."""
        # The step is the counter's second word: the first counts the draws of a batch, which steps must not share.
        random = np.random.Generator(np.random.Philox(key=seed % 2**64, counter=[0, step, 0, 0]))
        starts = random.integers(0, len(self.train) - context, rows)
        return self.train[starts[:, None] + np.arange(context + 1)].astype(np.int64)

    def windows(self, context: int, tokens: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets, (N, context) each, that score every validation token after the first once. With `tokens`,
        about so many of them, in windows spread evenly. The last window is padded with targets that are not scored."""
        scored = len(self.validation) - 1
        count = -(-scored // context)
        inputs, targets = (np.full(count * context, fill, np.int64) for fill in (0, IGNORED))
        inputs[:scored], targets[:scored] = self.validation[:-1], self.validation[1:]
        kept = np.arange(count)
        if tokens is not None and -(-tokens // context) < count:
            kept = np.linspace(0, count - 2, -(-tokens // context)).astype(int)
        return inputs.reshape(count, context)[kept], targets.reshape(count, context)[kept]


def read(data: Data, tokenizer: Callable[[str, str], Tokenizer], context: int) -> Corpus:
    """Reads and tokenises a text; refuses one that is shorter than the context."""
    train, validation = data.split()
    learned = tokenizer(train, validation)
    sha = hashlib.sha256((train + validation).encode()).hexdigest()
    corpus = Corpus(learned.encode(train), learned.encode(validation), learned, sha)
    for name, tokens in (("training", corpus.train), ("validation", corpus.validation)):
        if len(tokens) <= context:
            raise Refused(
                f"model.context={context} is longer than the {name} split of {len(tokens)} tokens; "
                f"{f'try model.context={len(tokens) // 2} or ' if len(tokens) > 1 else ''}give more data"
            )
    return corpus
