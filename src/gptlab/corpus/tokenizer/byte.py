"""Byte-level tokenizer: one token per byte of UTF-8, 256 in all. It takes every text and learns nothing."""

from collections.abc import Iterable
from typing import Any, Self

import numpy as np

from gptlab.corpus.tokenizer import Tokenizer, encode_utf8


class Byte(Tokenizer):
    """One token per byte; a character outside ASCII takes two to four."""

    def __init__(self, train: Iterable[str] = (), validation: Iterable[str] = ()) -> None:
        super().__init__([bytes([byte]) for byte in range(256)])

    def encode(self, text: str) -> np.ndarray:
        return np.frombuffer(encode_utf8(text), np.uint8).copy()  # a buffer of bytes is read-only, which torch warns of

    def state(self) -> dict[str, Any]:
        return {}

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Self:
        return cls()
