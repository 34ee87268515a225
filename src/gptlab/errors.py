"""Errors that end a program in one line, without a traceback."""

import errno
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


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


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a file system, a quota or `ulimit -f` says where there is no room."""


def describe_os_error(error: OSError) -> str:
    """Return one line for what a file system refused: the path, if it is known, the reason and a remedy."""
    reason = error.strerror or str(error).strip() or type(error).__name__
    name = error.filename or ("stdout" if _is_of_stdout(error) else "")
    where = f"{name}: " if name else ""
    remedy = "free some room there" if error.errno in FULL else "check that path and its rights"
    return f"{where}{' '.join(reason.split())}; {remedy}"


def _is_of_stdout(error: OSError) -> bool:
    """Return whether stdout has no room either, for as much as an end of line."""
    if error.errno not in FULL or sys.stdout is None:
        return False
    try:
        os.write(sys.stdout.fileno(), b"\n")
    except OSError:
        return True
    return False


def refuse_removed_folder() -> None:
    """Raise Refused where the working folder was removed, from which no path can be told."""
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise Refused("the working folder was removed; change to one that is there") from error


NO_ROOM = (
    *("can't allocate memory", "Unable to allocate", "Maximum allowed dimension exceeded", "array is too big"),
    *("Storage size calculation overflowed", "integer multiplication overflow"),
)
"""What torch and numpy say where memory has no room."""


@contextmanager
def refuse_out_of_memory(*, gpu: bool = False) -> Iterator[None]:
    """Turn what is raised where the host's memory has no room, or with `gpu` a GPU's, into Refused."""
    try:
        yield
    except (MemoryError, RuntimeError, ValueError) as error:
        line = (str(error) or type(error).__name__).splitlines()[0]
        is_of_gpu = gpu and type(error).__name__ == "OutOfMemoryError"  # torch's, which is not imported here
        if not isinstance(error, MemoryError) and not is_of_gpu and not any(words in line for words in NO_ROOM):
            raise
        size = re.search(r"allocate ([\d.]+ ?\w+)", line)
        what = f"for {size[1]} more" if size else f"({line[:80]})"
        raise Refused(
            f"memory has no room {what}; give a smaller batch_size, model.width, model.context or vocabulary"
        ) from error


def escape_controls(line: str) -> str:
    """Return a line without line breaks and control codes, which values and file names may hold."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in line)
