"""Progress bar for work before a run has its terminal: only on a terminal, only after a second."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class DelayedProgress:
    """Counts what is done of a total, if there is one, and shows a bar after a second."""

    def __init__(self, what: str, total: int | None) -> None:
        self.what, self.total, self.done = what, total, 0
        self.began = time.monotonic()
        self.bar = None

    def advance(self, amount: int = 0) -> None:
        """Add to what is done."""
        self.done += amount
        # most work is done before a bar would be drawn, and a bar that flashes is noise
        if self.bar is None and time.monotonic() - self.began > 1:
            self.bar = self._make_bar()
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=self.done)

    def _make_bar(self):
        """Return a new bar. rich is imported here, because most texts are read before a bar would be shown."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        left = (BarColumn(28), TimeRemainingColumn(compact=True), TextColumn("left")) if self.total else ()
        console = Console()
        columns = (TextColumn("  [dim]{task.description}[/]"), *left, TimeElapsedColumn())
        # transient: what follows should not stand below a bar that is full
        bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        bar.add_task(self.what, total=self.total)
        bar.start()
        return bar


@contextmanager
def delayed_progress(what: str, total: int | None = None) -> Iterator[DelayedProgress]:
    """Show what is being done and how far it is, as long as it lasts."""
    progress = DelayedProgress(what, total)
    try:
        yield progress
    finally:
        if progress.bar is not None:
            progress.bar.stop()
