"""A text cut in two by position, without holding it: its length, its sha256, and its parts, chunk by chunk."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from gptlab.console.progress import delayed_progress
from gptlab.corpus.data import Data
from gptlab.errors import Refused

HELD = 4_000_000
"""Characters that are kept in memory: larger texts are read again for each use, and their tokens are kept on disk. To
tokenise so much takes 0.02 s by characters and about a second by byte pairs (2026-11)."""


@dataclass(frozen=True)
class Part:
    """The characters from start to stop of a text, as often as asked."""

    chunks: Callable[[], Iterable[str]]
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[str]:
        at = 0
        for chunk in self.chunks():
            if at >= self.stop:
                return
            if piece := chunk[max(self.start - at, 0) : self.stop - at]:
                yield piece
            at += len(chunk)


class Split(NamedTuple):
    """Both parts of a text, the sha256 of the whole as UTF-8, and whether it is short enough to be held."""

    train: Part
    validation: Part
    sha256: str
    held: bool


def split(data: Data) -> Split:
    """Reads a text once. The first 1 - validation of the characters are learnt from, the rest is judged on."""
    held: list[str] = []
    length, sha = 0, hashlib.sha256()
    with delayed_progress("reading the text") as shown:
        for chunk in data.chunks():
            sha.update(chunk.encode())
            length += len(chunk)
            if length <= HELD:
                held.append(chunk)
            else:
                held.clear()
            shown.advance()
    cut = int(length * (1 - data.validation))
    if not 0 < cut < length:
        raise Refused(
            f"data.validation={data.validation} cuts the {length} characters of the text into {cut} and "
            f"{length - cut}; each part needs one at least: give a longer text or try 0.1"
        )
    chunks = (lambda: held) if length <= HELD else data.chunks
    return Split(Part(chunks, 0, cut), Part(chunks, cut, length), sha.hexdigest(), length <= HELD)
