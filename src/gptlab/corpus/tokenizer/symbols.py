"""Symbols of a synthetic task: a token for each of its names, which are written with blanks between them."""

from collections.abc import Iterable
from typing import Any, Self

import numpy as np

from gptlab.corpus.tokenizer import Tokenizer, encode_utf8
from gptlab.errors import Refused


class Symbols(Tokenizer):
    """One token for each name that the task gives; its choice alone takes no text."""

    for_tasks = True

    def __init__(self, train: Iterable[str] = (), validation: Iterable[str] = ()) -> None:
        self.names = [*train]  # in place of a text
        super().__init__([encode_utf8(f"{name} ") for name in self.names])
        self.tokens = {name: token for token, name in enumerate(self.names)}

    def encode(self, text: str) -> np.ndarray:
        words = text.split()
        unknown = [word for word in words if word not in self.tokens]
        if unknown or not words:
            shown = ", ".join(self.names[:8]) + (", ..." if len(self.names) > 8 else "")
            raise Refused(f"{unknown[0] if unknown else text!r} is no symbol of this task; its symbols are {shown}")
        return np.array([self.tokens[word] for word in words], self.dtype)

    def state(self) -> dict[str, Any]:
        return {"names": self.names}

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Self:
        return cls(state["names"])
