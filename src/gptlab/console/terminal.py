"""Terminal output of a run, also written to its log.txt without colours."""

import io
import os
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from gptlab.console.units import relative_to_cwd

INDENT = 12
"""Columns before a fact."""


def prepare_streams() -> None:
    """Let stdout and stderr take any character, and any size that the environment says they have."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal of another encoding loses a character, and no results
    for variable in ("COLUMNS", "LINES"):
        size = os.environ.get(variable, "1")
        # as if it were not set, as shutil has it: at a width of 0 rich prints nothing
        if not (size.isascii() and size.isdigit() and size.strip("0")):
            del os.environ[variable]


class LineLog(Protocol):
    """A file of lines that outlasts the terminal, such as a run's record."""

    def log(self, text: str) -> None:
        """Append a line."""


class Screen(Console):
    """A console whose reader may go without harm to the run."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        # | head must not end a training: from here on nothing is written there
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Terminal:
    """Prints to the standard output, to a file, or to the log alone; shows one bar."""

    def __init__(self, line_log: LineLog, file: TextIO | None = None, quiet: bool = False) -> None:
        self.console = Screen(highlight=False, file=file, quiet=quiet)
        self.line_log = line_log
        self.bar: Progress | None = None

    def say(self, markup: str = "") -> None:
        """Print a line in rich markup."""
        self.console.print(markup, soft_wrap=True)
        self.line_log.log(Text.from_markup(markup).plain)

    def print_fact(self, name: str, *lines: str) -> None:
        """Print a named fact of one or more lines."""
        for line in lines:
            text = Text.from_markup(line)
            # a pipe or a file has no width: whole lines, for grep
            width = self.console.width - INDENT if self.console.is_terminal else text.cell_len + 1
            for part in text.wrap(self.console, max(width, 20)):
                self.console.print(Text.assemble((f"  {name:<{INDENT - 2}}", "bold"), part), soft_wrap=True)
                # the name stands before the first line alone
                name = ""
            self.line_log.log(text.plain)

    def print_text(self, text: str) -> None:
        """Print a generated text: any characters, none of them markup."""
        for line in text.strip("\n").split("\n"):
            self.say(f"  [dim]│[/] {escape(line)}")

    def print_path(self, path: Path) -> None:
        """Print a path as other programs read it: on one line, relative to here if it lies below; not for the log."""
        self.console.print(str(relative_to_cwd(path)), markup=False, soft_wrap=True)

    def show_status(self, what: str) -> AbstractContextManager[Any]:
        """Show what is being done, on a terminal, as long as it lasts."""
        return self.console.status(f"[dim]{what}[/]")

    def start_bar(self, steps: int, done: int) -> None:
        """Show the bar, on a terminal."""
        self.bar = Progress(
            TextColumn("  "),
            BarColumn(28),
            MofNCompleteColumn(),
            TextColumn("loss [bold]{task.fields[loss]}[/]"),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=self.console,
            # the results take its place
            transient=True,
            disable=self.console.quiet or not self.console.is_terminal,
        )
        self.task = self.bar.add_task("train", total=steps, completed=done, loss="-", speed="")
        self.bar.start()

    def advance_bar(self, **values: Any) -> None:
        """Move the bar."""
        if self.bar is not None:
            self.bar.update(self.task, **values)

    def stop_bar(self) -> None:
        """Remove the progress bar."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
