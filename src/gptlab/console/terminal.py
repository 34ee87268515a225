"""What a person sees while a run works; said to the terminal and, without colours, to the run's log.txt."""

import os
import sys
from contextlib import AbstractContextManager
from typing import Any, Protocol, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

INDENT = 12
"""Columns before a fact."""


class LineLog(Protocol):
    """A file of lines that outlasts the terminal, such as a run's record."""

    def log(self, text: str) -> None:
        """Append a line."""


class Screen(Console):
    """A console whose reader may go without harm to the run."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Terminal:
    """Says things, to the standard output or to a file, or to the log alone; shows one bar."""

    def __init__(self, record: LineLog, file: TextIO | None = None, quiet: bool = False) -> None:
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
