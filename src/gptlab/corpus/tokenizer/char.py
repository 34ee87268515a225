"""Character tokenizer (char-rnn, nanoGPT's shakespeare_char): one token for each distinct character of the text.

As there, tokens are in the order of code points, and the vocabulary covers both splits: a letter that only the
validation split has would have no token otherwise.
"""

import sys
from collections.abc import Iterable
from typing import Any, Self

import numpy as np

from gptlab.corpus.tokenizer import Tokenizer, describe_character, encode_utf8
from gptlab.errors import Refused

UNSEEN = -1
CHUNK = 2**16
"""Characters looked up at once: intermediate arrays fit the CPU's cache, so that a large file takes little memory."""


class Char(Tokenizer):
    """One token per character. Characters that the text does not have are refused; tokenizer=byte takes all."""

    learns = True

    def __init__(self, train: Iterable[str], validation: Iterable[str] = ()) -> None:
        code_points = find_code_points(train) | find_code_points(validation)
        self.characters = "".join(map(chr, sorted(code_points)))
        encode_utf8(self.characters)
        super().__init__([character.encode() for character in self.characters])
        points = to_code_points(self.characters)
        self.tokens = np.full(points.max(initial=0) + 2, UNSEEN, np.int32)  # its last entry stands for all beyond
        self.tokens[points] = np.arange(self.vocab)

    def encode(self, text: str) -> np.ndarray:
        tokens = np.empty(len(text), self.dtype)
        for start in range(0, len(text), CHUNK):
            # clip: code points beyond the table fall on its last entry, UNSEEN
            part = self.tokens.take(to_code_points(text[start : start + CHUNK]), mode="clip")
            if (part == UNSEEN).any():
                character = describe_character(text, start + int((part == UNSEEN).argmax()))
                raise Refused(f"tokenizer=char has never seen {character}; leave it out or train with tokenizer=byte")
            tokens[start : start + CHUNK] = part
        return tokens

    def state(self) -> dict[str, Any]:
        return {"characters": self.characters}

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Self:
        return cls([state["characters"]])


def find_code_points(chunks: Iterable[str]) -> set[int]:
    """Return the distinct code points of a text."""
    is_present = np.zeros(sys.maxunicode + 1, bool)
    for chunk in chunks:
        is_present[to_code_points(chunk)] = True
    return set(np.flatnonzero(is_present).tolist())


def to_code_points(text: str) -> np.ndarray:
    """Return the code points of a text, (N,) uint32.

    Halves of surrogate pairs count as characters, so that `encode` can name them.
    """
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
