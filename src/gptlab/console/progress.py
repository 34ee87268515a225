"""A bar for work before a run has its terminal: only on a terminal, only after a second."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Patience:
    """Counts what is done of a total, if there is one."""

    def __init__(self, what: str, total: int | None) -> None:
        self.what, self.total, self.done = what, total, 0
        self.began = time.monotonic()
        self.bar = None

    def moved(self, amount: int = 0) -> None:
        """So much more is done."""
        self.done += amount
        if self.bar is None and time.monotonic() - self.began > 1:
            self.bar = self.shown()
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=self.done)

    def shown(self):
        """The bar. Imported here, because most texts are read before it would be there."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        left = (BarColumn(28), TimeRemainingColumn(compact=True), TextColumn("left")) if self.total else ()
        console = Console()
        columns = (TextColumn("  [dim]{task.description}[/]"), *left, TimeElapsedColumn())
        bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        bar.add_task(self.what, total=self.total)
        bar.start()
        return bar


@contextmanager
def patience(what: str, total: int | None = None) -> Iterator[Patience]:
    """Shows what is being done and how far it is, as long as it lasts."""
    shown = Patience(what, total)
    try:
        yield shown
    finally:
        if shown.bar is not None:
            shown.bar.stop()
