"""How a program ends other than well: in one line, without a traceback."""


class Refused(ValueError):
    """What was asked for cannot be done: the line names the knob, the values and the remedy. Exit status 2."""


class Ended(Exception):
    """A run ended before its end; the line says why and how to go on. `status` is the exit status."""

    def __init__(self, line: str, status: int = 1) -> None:
        super().__init__(line)
        self.status = status
