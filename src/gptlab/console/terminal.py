"""What a person sees while a run works; said to the terminal and, without colours, to the run's log.txt."""

import os
import sys
from contextlib import AbstractContextManager
from typing import Any, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from gptlab.runs.record import Record

INDENT = 12
"""Columns before a fact."""
BARS = "▁▂▃▄▅▆▇█"


class Screen(Console):
    """A console whose reader may go without harm to the run."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Terminal:
    """Says things, to the standard output or to a file, or to the log alone; shows one bar."""

    def __init__(self, record: Record, file: TextIO | None = None, quiet: bool = False) -> None:
        self.console = Screen(highlight=False, file=file, quiet=quiet)
        self.record = record
        self.bar: Progress | None = None

    def say(self, markup: str = "") -> None:
        """A line in rich markup."""
        self.console.print(markup, soft_wrap=True)
        self.record.log(Text.from_markup(markup).plain)

    def fact(self, name: str, *lines: str) -> None:
        """A named fact of one or more lines."""
        for line in lines:
            text = Text.from_markup(line)
            width = self.console.width - INDENT if self.console.is_terminal else text.cell_len + 1
            for part in text.wrap(self.console, max(width, 20)):
                self.console.print(Text.assemble((f"  {name:<{INDENT - 2}}", "bold"), part), soft_wrap=True)
                name = ""
            self.record.log(text.plain)

    def text(self, text: str) -> None:
        """What a model wrote: any characters, none of them markup."""
        for line in text.strip("\n").split("\n"):
            self.say(f"  [dim]│[/] {escape(line)}")

    def last(self, line: str) -> None:
        """A line as it is, for other programs to read; not for the log."""
        self.console.print(line, markup=False, soft_wrap=True)

    def working(self, what: str) -> AbstractContextManager[Any]:
        """Shows what is being done, on a terminal, as long as it lasts."""
        return self.console.status(f"[dim]{what}[/]")

    def start(self, steps: int, done: int) -> None:
        """Shows the bar, on a terminal."""
        self.bar = Progress(
            TextColumn("  "),
            BarColumn(28),
            MofNCompleteColumn(),
            TextColumn("loss [bold]{task.fields[loss]}[/]"),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=self.console,
            transient=True,
            disable=self.console.quiet or not self.console.is_terminal,
        )
        self.task = self.bar.add_task("train", total=steps, completed=done, loss="-", speed="")
        self.bar.start()

    def advance(self, **values: Any) -> None:
        """Moves the bar."""
        if self.bar is not None:
            self.bar.update(self.task, **values)

    def stop(self) -> None:
        """Takes the bar away."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


def spark(values: list[float], width: int = 40) -> str:
    """Numbers as a line of small bars."""
    if len(values) < 2:
        return ""
    picked = (
        [values[round(i * (len(values) - 1) / (width - 1))] for i in range(width)] if len(values) > width else values
    )
    low, high = min(picked), max(picked)
    return "".join(BARS[round((value - low) / ((high - low) or 1) * (len(BARS) - 1))] for value in picked)


def duration(seconds: float) -> str:
    """Seconds in words: 42 s, 3.5 min, 2.1 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
