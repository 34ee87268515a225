"""Errors that end a program in one line, without a traceback."""


class Refused(ValueError):
    """A request that cannot be met: the line names the knob, the values and the remedy. Exit status 2."""


class Ended(Exception):
    """A run that ended early; the line says why and how to go on. `status` is the exit status."""

    def __init__(self, line: str, status: int = 1) -> None:
        super().__init__(line)
        self.status = status


def escape_controls(line: str) -> str:
    """Return a line without line breaks and control codes, which values and file names may hold."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in line)
