"""Text to numbers and back, exactly. A token is a piece of UTF-8; all but the way in follows from the pieces."""

import codecs
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from gptlab.errors import Refused


class Tokenizer:
    """The slot's contract: __init__(train, validation, *, knobs) learns the pieces and passes them on. Both are texts
    in chunks, to be read once, for they may be larger than memory. learns: whether it needs them, so that files of
    tokens, which have no text, will not do."""

    learns = False

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    @property
    def vocab(self) -> int:
        """How many tokens there are."""
        return len(self.pieces)

    @property
    def dtype(self) -> np.dtype:
        """The smallest of uint8, uint16, uint32 that holds every token."""
        return np.min_scalar_type(max(self.vocab - 1, 0))

    def encode(self, text: str) -> np.ndarray:
        """The tokens of a text, (N,) of `dtype`; raises Refused where it has none for a character."""
        raise NotImplementedError

    def portions(self, chunks: Iterable[str]) -> Iterator[str]:
        """A text in chunks, cut anew so that the tokens of its portions, joined, are those of the whole."""
        yield from chunks

    def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
        """The text of tokens. Bytes that make no UTF-8, as a young model writes, become U+FFFD."""
        return b"".join([self.pieces[token] for token in np.asarray(tokens).tolist()]).decode(errors="replace")

    def stream(self, tokens: Iterable[int]) -> Iterator[str]:
        """The text of tokens as they come; joined, it is what decode says. Half a character waits for its rest."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for token in tokens:
            if piece := decoder.decode(self.pieces[token]):
                yield piece
        if rest := decoder.decode(b"", final=True):
            yield rest

    def lengths(self) -> np.ndarray:
        """The UTF-8 bytes of each token, (V,), so that nats per token become bits per byte."""
        return np.array([len(piece) for piece in self.pieces], np.int64)

    @classmethod
    def reads(cls, knobs: dict[str, Any]) -> list[Path]:
        """The files that it is made from, whose content decides its tokens as its knobs do."""
        return []

    @classmethod
    def role(cls, file: Path) -> str:
        """Return what the name of a file decides, if anything."""
        return ""

    def state(self) -> dict[str, Any]:
        """What JSON must keep of it, so that sampling needs no corpus."""
        raise NotImplementedError

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Self:
        """The tokenizer that gave this state."""
        raise NotImplementedError


def utf8(text: str) -> bytes:
    """The bytes of a text; refuses half a surrogate pair, which Python strings can hold and UTF-8 cannot."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise Refused(f"{name(text, error.start)} is half a surrogate pair, which UTF-8 cannot hold") from None


def name(text: str, at: int) -> str:
    """A character and where it stands, in words."""
    return f"{text[at]!a} (U+{ord(text[at]):04X}) at character {at} of {len(text)}"


def _writing() -> dict[str, int]:
    """GPT-2's files write a byte as one printable character: itself where it is one, else those from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = (byte for byte in range(256) if byte not in printable)
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


WRITING = _writing()


def unwritten(piece: str) -> bytes:
    """The bytes of a piece as GPT-2's files write it."""
    return bytes(WRITING[character] for character in piece)
