"""A corpus as text again, for metrics that judge what a model writes: what it learnt from, and texts to compare with.

The floor is blind: tokens drawn one by one from the training split, right in their shares and in nothing else. The
ceiling is real: stretches of the validation split that begin where a sample does, after the last token of the prompt.
Both depend on the corpus alone, so all runs on it share them.
"""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gptlab.corpus.corpus import Corpus
from gptlab.training.metric import Split

READ = 2**25
"""Tokens of a split that are read at most, some seconds' worth: of a larger one a reference holds the first part."""
CHUNK = 2**16
"""Tokens made into text at once: what lies between fits the cache."""


@dataclass(frozen=True)
class Texts:
    """The texts of a corpus."""

    corpus: Corpus

    def read(self, split: Split) -> Iterator[str]:
        """The text of a split, in parts that may end inside a word, never inside a character."""
        tokens, pieces = getattr(self.corpus, split)[:READ], self.corpus.tokenizer.pieces
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for start in range(0, len(tokens), CHUNK):
            yield decoder.decode(b"".join([pieces[token] for token in tokens[start : start + CHUNK].tolist()]))
        yield decoder.decode(b"", final=True)

    def blind(self, count: int, length: int) -> list[str]:
        """Texts of `length` tokens that know no order."""
        train = self.corpus.train
        at = np.random.default_rng(0).integers(0, len(train), (count, length))
        return [self.corpus.tokenizer.decode(row) for row in train[at]]

    def real(self, count: int, length: int, after: int) -> list[str]:
        """Stretches of the validation split of `length` tokens (all of it, if it has no more) that follow the token
        `after`; that begin anywhere where it is rare."""
        validation = self.corpus.validation[:READ]
        last = max(1, len(validation) - length)
        begins = np.flatnonzero(validation[:last] == after) + 1
        random = np.random.default_rng(0)
        starts = random.choice(begins, count) if len(begins) > count else random.integers(0, last, count)
        return [self.corpus.tokenizer.decode(validation[start : start + length]) for start in starts]
