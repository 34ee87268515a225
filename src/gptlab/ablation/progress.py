"""Where a study stands: a line a cell as each ends, and below them one that lives. Read from the ledger alone, so it is
the same for every launcher, and from another terminal."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from gptlab.console.units import span
from gptlab.runs.record import read, rows
from gptlab.runs.study_folder import OVER, Ledger, State

DONE = (*OVER, "failed")
EVERY = 0.5
"""Seconds between two looks."""


class Overview:
    """Tells of a study while its cells run, in a thread of its own."""

    def __init__(
        self, ledger: Ledger, cells: dict[str, dict[str, Any]], seconds: dict[str, float], jobs: int, console: Console
    ):
        self.ledger, self.cells, self.seconds, self.jobs, self.console = ledger, cells, seconds, jobs, console
        self.told = {key for key, state in ledger.states().items() if state.status in OVER}
        self.began = time.time()
        self.over = threading.Event()
        self.live = Live(console=console, refresh_per_second=2, transient=True) if console.is_terminal else None

    def __enter__(self) -> "Overview":
        if self.live:
            self.live.start()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()
        self._look()
        if self.live:
            self.live.stop()

    def _watch(self) -> None:
        while not self.over.wait(EVERY):
            self._look()

    def _look(self) -> None:
        states = self.ledger.states()
        for key in self.cells:
            state = states.get(key, State())
            if state.status in DONE and state.at >= self.began and key not in self.told:
                self.told.add(key)
                self.console.print(
                    ended(self.ledger, self.cells, key, state, len(self.told & set(self.cells))), soft_wrap=True
                )
        if self.live:
            self.live.update(
                Text.from_markup(f"  {standing(self.ledger, self.cells, states, self.seconds, self.jobs)}")
            )


def ended(ledger: Ledger, cells: dict[str, dict[str, Any]], key: str, state: State, number: int) -> str:
    """The line of a cell that is over, in rich markup."""
    cell, wide = cells[key], max(len(one["label"]) for one in cells.values())
    digits = len(str(len(cells)))
    start = f"  {number:>{digits}}/{len(cells)}  {escape(cell['label']):<{wide}}  seed {cell['seed']}  "
    if state.status == "failed":
        return f"{start}[red]failed[/]: {escape(state.reason)}; see {escape(state.log)}"
    summary = _summary(ledger.pool / state.run)
    if state.status == "diverged":
        return f"{start}[red]diverged[/] at {escape(summary.get('reason', ''))}"
    taken = "already there" if state.reused else f"{summary.get('time/total_s', 0):.0f} s"
    return f"{start}loss {summary.get('val/loss', float('nan')):.4f}  [dim]{taken}[/]"


def standing(
    ledger: Ledger, cells: dict[str, dict[str, Any]], states: dict[str, State], seconds: dict[str, float], jobs: int
) -> str:
    """Done, running, left, and the time that is left, by what was probed and how long that took so far."""
    status = {key: states.get(key, State()).status for key in cells}
    done = [key for key in cells if status[key] in OVER]
    failed = [key for key in cells if status[key] == "failed"]
    running = [key for key in cells if status[key] == "running"]
    left = [key for key in cells if key not in done + failed + running]
    parts = [f"{len(done)} of {len(cells)} done"]
    parts += [f"[red]{len(failed)} failed[/]"] if failed else []
    parts += [f"running {', '.join(_progress(ledger, cells[key], states[key]) for key in running)}"] if running else []
    parts += [f"{len(left)} left"] if left else []
    if rest := left_s(ledger, cells, states, seconds):
        parts.append(f"about {span(rest / max(1, jobs) / 60)}")
    return ", ".join(parts)


def left_s(
    ledger: Ledger, cells: dict[str, dict[str, Any]], states: dict[str, State], seconds: dict[str, float]
) -> float:
    """Seconds of training that are left, corrected by how the finished cells kept to what was probed."""
    taken = expected = 0.0
    for key, state in states.items():
        if key in cells and state.status == "finished" and not state.reused:
            taken += _summary(ledger.pool / state.run).get("time/total_s", 0)
            expected += seconds.get(key, 0)
    rate = taken / expected if taken and expected else 1.0
    rest = 0.0
    for key in cells:
        state = states.get(key, State())
        if state.status not in DONE:
            rest += (
                rate
                * seconds.get(key, 0)
                * (1 - (_part(ledger, cells[key], state) if state.status == "running" else 0))
            )
    return rest


def _progress(ledger: Ledger, cell: dict[str, Any], state: State) -> str:
    return f"{escape(cell['label'])} seed {cell['seed']} ({_part(ledger, cell, state):.0%})"


def _part(ledger: Ledger, cell: dict[str, Any], state: State) -> float:
    if not state.run:
        return 0.0
    last = max((row["step"] for row in rows(ledger.pool / state.run / "metrics.jsonl")), default=0)
    return min(1.0, last / cell["config"]["steps"])


def _summary(folder: Path) -> dict[str, Any]:
    try:
        return read(folder / "summary.json")
    except (OSError, ValueError):
        return {}


# -- from another terminal


def show(ledger: Ledger, console: Console) -> None:
    """Where every cell of a study stands."""
    cells, states = ledger.cells(), ledger.states()
    seconds = ledger.asked.get("seconds", {})
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("arm", "seed", "state", ""):
        table.add_column(name, overflow="fold")
    for key, words in _lines(ledger, cells, states):
        table.add_row(escape(cells[key]["label"]), str(cells[key]["seed"]), *words)
    told = standing(ledger, cells, states, seconds, ledger.asked.get("jobs", 1))
    console.print(f"[bold]{escape(ledger.folder.name)}[/]   {told}", soft_wrap=True)
    console.print(table)


def _lines(
    ledger: Ledger, cells: dict[str, dict[str, Any]], states: dict[str, State]
) -> Iterator[tuple[str, tuple[str, str]]]:
    for key, cell in cells.items():
        state = states.get(key, State())
        if state.status == "running":
            yield key, ("running", f"{_part(ledger, cell, state):.0%} {escape(state.owner)}")
        elif state.status == "finished":
            loss = _summary(ledger.pool / state.run).get("val/loss", float("nan")) if state.run else None
            yield key, ("finished", "measured" if loss is None else f"loss {loss:.4f}")
        else:
            yield key, (state.status, escape(" ".join(filter(None, (state.reason, state.log)))))
