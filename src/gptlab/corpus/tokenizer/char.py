"""One token per character (char-rnn, nanoGPT's shakespeare_char): the sorted characters of the whole text.

Both splits are looked at, as those do: a letter that only the validation split has would have no token.
"""

import sys
from collections.abc import Iterable
from typing import Any, Self

import numpy as np

from gptlab.corpus.tokenizer import Tokenizer, name, utf8
from gptlab.errors import Refused

UNSEEN = -1
CHUNK = 2**16
"""Characters looked up at once: what lies between fits the cache, so that a large file takes little memory."""


class Char(Tokenizer):
    """Refuses characters that the text did not hold; tokenizer=byte takes all."""

    learns = True

    def __init__(self, train: Iterable[str], validation: Iterable[str] = ()) -> None:
        self.characters = "".join(map(chr, sorted(seen(train) | seen(validation))))
        utf8(self.characters)
        super().__init__([character.encode() for character in self.characters])
        points = codepoints(self.characters)
        self.tokens = np.full(points.max(initial=0) + 2, UNSEEN, np.int32)  # its last entry stands for all beyond
        self.tokens[points] = np.arange(self.vocab)

    def encode(self, text: str) -> np.ndarray:
        tokens = np.empty(len(text), self.dtype)
        for start in range(0, len(text), CHUNK):
            part = self.tokens.take(codepoints(text[start : start + CHUNK]), mode="clip")
            if (part == UNSEEN).any():
                where = name(text, start + int((part == UNSEEN).argmax()))
                raise Refused(f"tokenizer=char has never seen {where}; leave it out or train with tokenizer=byte")
            tokens[start : start + CHUNK] = part
        return tokens

    def state(self) -> dict[str, Any]:
        return {"characters": self.characters}

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Self:
        return cls([state["characters"]])


def seen(chunks: Iterable[str]) -> set[int]:
    """The code points of a text."""
    there = np.zeros(sys.maxunicode + 1, bool)
    for chunk in chunks:
        there[codepoints(chunk)] = True
    return set(np.flatnonzero(there).tolist())


def codepoints(text: str) -> np.ndarray:
    """(N,) uint32; halves of surrogate pairs count as characters, so that encode can name them."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
