"""Tokenizers: text to numbers and back, exactly. A token stands for a piece of UTF-8 bytes."""

import codecs
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self

import numpy as np

from gptlab.corpus.content import FileReader
from gptlab.errors import Refused

MAX_VOCAB = 2**22
"""Tokens of a vocabulary at most, sixteen times those of the largest in use: room for all of them is made at once."""


class Tokenizer(FileReader):
    """Contract of the slot: __init__(train, validation, *, knobs) learns the pieces and passes them on.

    Both are texts in chunks, to be read once, since they may be larger than memory. A subclass defines encode, state
    and restore; decoding follows from the pieces.

    learns     whether the vocabulary is learned from the text; such a tokenizer cannot be used with files of tokens
    for_tasks  whether it names the symbols of a synthetic task, and takes no text
    """

    learns = False
    for_tasks = False

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    @property
    def vocab(self) -> int:
        """Number of tokens."""
        return len(self.pieces)

    @property
    def dtype(self) -> np.dtype:
        """Smallest of uint8, uint16 and uint32 that holds every token."""
        return np.min_scalar_type(max(self.vocab - 1, 0))

    def encode(self, text: str) -> np.ndarray:
        """Return the tokens of a text, (N,) of `dtype`; raise Refused for a character that has none."""
        raise NotImplementedError

    def portions(self, chunks: Iterable[str]) -> Iterator[str]:
        """Cut a text anew so that the tokens of its portions, concatenated, are those of the whole."""
        yield from chunks

    def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
        """Return the text of tokens. Bytes that are not UTF-8, as an untrained model writes, become U+FFFD."""
        pieces = [self.pieces[token] for token in np.asarray(tokens).tolist()]
        # bytes are joined before they are decoded: a character may be spread over several tokens
        return b"".join(pieces).decode(errors="replace")

    def stream(self, tokens: Iterable[int]) -> Iterator[str]:
        """Yield the text of tokens as they come; joined, it equals `decode`.

        An incomplete character waits for its rest.
        """
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for token in tokens:
            if piece := decoder.decode(self.pieces[token]):
                yield piece
        if rest := decoder.decode(b"", final=True):
            yield rest

    def lengths(self) -> np.ndarray:
        """Return the number of UTF-8 bytes of each token, (V,), to convert nats per token to bits per byte."""
        return np.array([len(piece) for piece in self.pieces], np.int64)

    def state(self) -> dict[str, Any]:
        """Return the tokenizer's state for JSON, from which it is restored without the corpus."""
        raise NotImplementedError

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Self:
        """Return the tokenizer that gave this state."""
        raise NotImplementedError


def encode_utf8(text: str) -> bytes:
    """Return the bytes of a text; refuse half a surrogate pair, which Python strings can hold and UTF-8 cannot."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        character = describe_character(text, error.start)
        raise Refused(f"{character} is half a surrogate pair, which UTF-8 cannot hold") from None


def describe_character(text: str, position: int) -> str:
    """Return a character and its position, in words."""
    return f"{text[position]!a} (U+{ord(text[position]):04X}) at character {position} of {len(text)}"


def _map_characters_to_bytes() -> dict[str, int]:
    """Return the byte that each printable character stands for in GPT-2's files.

    A printable byte is written as itself, the others as the characters from U+0100 on.
    """
    # the table of OpenAI's encoder.py: a file of pieces needs a printable character for each byte
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    byte_of_character = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in printable]
    for number, byte in enumerate(others):
        byte_of_character[chr(256 + number)] = byte
    return byte_of_character


BYTE_OF_CHARACTER = _map_characters_to_bytes()


def decode_piece(piece: str) -> bytes:
    """Return the bytes of a piece as GPT-2's files write it."""
    return bytes(BYTE_OF_CHARACTER[character] for character in piece)
