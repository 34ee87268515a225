"""One JSON object for the program that asked: output=json beside train.py and ablate.py, --json beside the others.

It is the last line of stdout, and the only one: all else, also of child processes, goes to stderr. Every object has
`schema`, `exit` (the exit status) and `error` (the line that stderr shows, or null). docs/programs.md has the rest.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gptlab.console.json_text import to_json
from gptlab.console.units import relative_to_cwd

SCHEMA = 1
"""It grows when a key goes or changes its meaning, not when one is added."""
WORDS = ("output=json", "--json")
TEXT = "output=text"
"""The default, which may be said too."""

_answer: dict[str, Any] | None = None
"""The object of this process; None where nobody asked for one."""


def add_to_answer(**facts: Any) -> None:
    """Add facts to the object that the caller asked for, if it asked.

    A path is said as people are told it: from the working folder where it lies below that, else absolute.
    """
    if _answer is not None:
        paths = {key: str(relative_to_cwd(value)) for key, value in facts.items() if isinstance(value, Path)}
        _answer.update({**facts, **paths})


def is_json_wanted() -> bool:
    """Return whether the caller reads an object, for facts that take time to collect."""
    return _answer is not None


@contextmanager
def answer_in_json(arguments: list[str]) -> Iterator[None]:
    """Remove the word that asks for JSON from the arguments; print the object when the block ends, however it ends.

    A block inside another one belongs to it. SystemExit gives the exit status; other exceptions pass, as status 1.
    """
    global _answer
    wanted = [word for word in arguments if word in WORDS]
    # in place: hydra reads the same list, sys.argv, and knows no such key
    arguments[:] = [word for word in arguments if word not in (*WORDS, TEXT)]
    # a study that trains in this process must not print a second object
    if not wanted or _answer is not None:
        yield
        return
    if sys.stdout is None:
        print(f"error: stdout is closed, where {wanted[0]} writes its object; leave one of them open", file=sys.stderr)
        sys.exit(2)
    _answer = {"schema": SCHEMA, "exit": 0, "error": None}
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)  # below Python, so that child processes and libraries of C are sent there too
    try:
        yield
    except SystemExit as end:
        _answer["exit"] = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise
    except BaseException as error:
        _answer |= {"exit": 1, "error": f"{type(error).__name__}: {error}"}
        raise
    finally:
        sys.stdout.flush()
        os.dup2(stdout, 1)
        os.close(stdout)
        text, _answer = to_json(_answer), None
        # the real stdout is back: this line is the only one that it sees
        _print_to_stdout(text)


def _print_to_stdout(text: str) -> None:
    """Print the object; exit where nobody can read it, since the status of the work would say that all is well."""
    try:
        print(text, flush=True)
    except OSError as error:
        # or Python tries once more at its end, and says so in lines of its own
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if isinstance(error, BrokenPipeError):  # whoever read it has gone
            sys.exit(128 + signal.SIGPIPE)
        print(f"error: the object of --json cannot be written to stdout: {error.strerror}", file=sys.stderr)
        sys.exit(2)
