"""Reference texts for metrics that judge samples: the text that a model learnt from, a floor and a ceiling.

The floor is random: tokens drawn one by one from the training split, right in their shares and in nothing else. The
ceiling is real: stretches of the validation split that begin where a sample does, after the last token of the prompt.
Both depend on the corpus alone, so all runs on it share them.
"""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gptlab.corpus.corpus import Corpus
from gptlab.training.metric import Split

MAX_TOKENS = 2**25
"""Tokens of a split that are read at most, some seconds' worth; of a larger one the first part is taken."""
CHUNK = 2**16
"""Tokens made into text at once: what lies between fits the cache."""


@dataclass(frozen=True)
class ReferenceTexts:
    """The texts of a corpus."""

    corpus: Corpus

    def read(self, split: Split) -> Iterator[str]:
        """Yield the text of a split, in parts that may end inside a word, never inside a character."""
        tokens, pieces = getattr(self.corpus, split)[:MAX_TOKENS], self.corpus.tokenizer.pieces
        # a character's bytes may be split between two tokens, and so between two chunks
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for start in range(0, len(tokens), CHUNK):
            chunk = tokens[start : start + CHUNK].tolist()
            yield decoder.decode(b"".join([pieces[token] for token in chunk]))
        yield decoder.decode(b"", final=True)

    def random_texts(self, count: int, length: int) -> list[str]:
        """Draw texts of `length` tokens without any order."""
        train = self.corpus.train
        # a fixed seed, not the run's: all runs on a corpus are held against the same floor
        positions = np.random.default_rng(0).integers(0, len(train), (count, length))
        return [self.corpus.tokenizer.decode(row) for row in train[positions]]

    def validation_texts(self, count: int, length: int, after: int) -> list[str]:
        """Draw stretches of the validation split, each of `length` tokens (all of it, if it has no more).

        They follow the token `after`, or begin anywhere where it is rare.
        """
        validation = self.corpus.validation[:MAX_TOKENS]
        last = max(1, len(validation) - length)
        begins = np.flatnonzero(validation[:last] == after) + 1
        random = np.random.default_rng(0)
        starts = random.choice(begins, count) if len(begins) > count else random.integers(0, last, count)
        return [self.corpus.tokenizer.decode(validation[start : start + length]) for start in starts]
