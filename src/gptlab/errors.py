"""Errors that end a program in one line, without a traceback."""

import os
from collections.abc import Sequence


class Refused(ValueError):
    """A request that cannot be met: the line names the knob, the values and the remedy. Exit status 2."""


class Ended(Exception):
    """A run that ended early; the line says why and how to go on. `status` is the exit status."""

    def __init__(self, line: str, status: int = 1) -> None:
        super().__init__(line)
        self.status = status


def refuse_unknown_word(variable: str, words: Sequence[str]) -> None:
    """Raise Refused where an environment variable is set to none of the words that it knows."""
    word = os.environ.get(variable) or words[0]
    if word not in words:
        raise Refused(f"{variable}={word}: no such word; known: {', '.join(words)}; unset is {words[0]}")


def escape_controls(line: str) -> str:
    """Return a line without line breaks and control codes, which values and file names may hold."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in line)
