"""Splitting a text by position into training and validation, chunk by chunk, without holding it in memory."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from gptlab.console.progress import delayed_progress
from gptlab.corpus.data import Data
from gptlab.errors import Refused

MAX_HELD = 4_000_000
"""Characters up to which a text is held in memory.

Longer ones are read again for each use, and their tokens are cached on disk. Tokenizing so many takes 0.02 s by
characters and about a second by byte pairs (2026-11).
"""


@dataclass(frozen=True)
class Part:
    """The characters from `start` to `stop` of a text; can be iterated over repeatedly."""

    chunks: Callable[[], Iterable[str]]
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[str]:
        position = 0
        for chunk in self.chunks():
            if position >= self.stop:
                return
            if piece := chunk[max(self.start - position, 0) : self.stop - position]:
                yield piece
            position += len(chunk)


class Split(NamedTuple):
    """Both parts of a text, the sha256 of the whole as UTF-8, and whether it is held in memory."""

    train: Part
    validation: Part
    sha256: str
    held: bool


def split_text(data: Data) -> Split:
    """Read a text once and split it: the first 1 - `data.validation` of the characters are the training part."""
    held_chunks: list[str] = []
    length, sha = 0, hashlib.sha256()
    with delayed_progress("reading the text") as progress:
        for chunk in data.chunks():
            # of the text, not of the file: the same text in several files is the same data
            sha.update(chunk.encode())
            length += len(chunk)
            if length <= MAX_HELD:
                held_chunks.append(chunk)
            else:
                held_chunks.clear()  # too long after all: it will be read again
            progress.advance()
    # by position, not by chance: neighbouring sentences in both splits would leak
    boundary = int(length * (1 - data.validation))
    if not 0 < boundary < length:
        raise Refused(
            f"data.validation={data.validation} cuts the {length} characters of the text into {boundary} and "
            f"{length - boundary}; each part needs one at least: give a longer text or try 0.1"
        )
    is_held = length <= MAX_HELD
    chunks = (lambda: held_chunks) if is_held else data.chunks
    train, validation = Part(chunks, 0, boundary), Part(chunks, boundary, length)
    return Split(train, validation, sha.hexdigest(), held=is_held)
