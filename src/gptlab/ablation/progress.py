"""Progress of a study: a line for each cell as it ends, and below them a live one.

Read from the study folder alone, so that it is the same for every launcher, and from another terminal.
"""

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

from gptlab.console.units import format_minutes
from gptlab.runs.record import read_json, read_rows
from gptlab.runs.study_folder import TERMINAL_STATES, CellState, StudyFolder

ENDED_STATES = (*TERMINAL_STATES, "failed")
REFRESH_S = 0.5
"""Seconds between two looks at the folder."""


class StudyProgress:
    """Prints a study's progress while its cells run, in a thread of its own."""

    def __init__(
        self,
        study_folder: StudyFolder,
        cells: dict[str, dict[str, Any]],
        console: Console,
        *,
        seconds: dict[str, float],
        jobs: int,
    ):
        self.study_folder, self.cells, self.console = study_folder, cells, console
        self.seconds, self.jobs = seconds, jobs
        # cells of an earlier command are counted, not announced again
        self.announced = {key for key, state in study_folder.read_states().items() if state.status in TERMINAL_STATES}
        self.began = time.time()
        self.over = threading.Event()
        self.live = Live(console=console, refresh_per_second=2, transient=True) if console.is_terminal else None

    def __enter__(self) -> "StudyProgress":
        if self.live:
            self.live.start()
        # a thread, since the launcher holds this one; a daemon, so that it keeps no failing program alive
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()
        # once more: cells may have ended since the thread's last look
        self._refresh()
        if self.live:
            self.live.stop()

    def _watch(self) -> None:
        while not self.over.wait(REFRESH_S):
            self._refresh()

    def _refresh(self) -> None:
        """Print a line for each cell that has ended since the last look, and renew the live one."""
        states = self.study_folder.read_states()
        for key in self.cells:
            state = states.get(key, CellState())
            # by time as well: a cell that failed in an earlier command is tried again, and may fail again
            if state.status in ENDED_STATES and state.at >= self.began and key not in self.announced:
                self.announced.add(key)
                number = len(self.announced & {*self.cells})
                line = describe_ended_cell(self.study_folder, self.cells, key, state=state, number=number)
                self.console.print(line, soft_wrap=True)
        if self.live:
            line = describe_progress(self.study_folder, self.cells, states, seconds=self.seconds, jobs=self.jobs)
            self.live.update(Text.from_markup(f"  {line}"))


def describe_ended_cell(
    study_folder: StudyFolder, cells: dict[str, dict[str, Any]], key: str, *, state: CellState, number: int
) -> str:
    """Return the line of a cell that has ended, in rich markup; `number`: how many have."""
    cell, wide = cells[key], max(len(described["label"]) for described in cells.values())
    digits = len(str(len(cells)))
    start = f"  {number:>{digits}}/{len(cells)}  {escape(cell['label']):<{wide}}  seed {cell['seed']}  "
    if state.status == "failed":
        return f"{start}[red]failed[/]: {escape(state.reason)}; see {escape(state.log)}"
    summary = _read_summary(study_folder.pool / state.run)
    if state.status == "diverged":
        return f"{start}[red]diverged[/] at {escape(summary.get('reason', ''))}"
    duration = "already there" if state.reused else f"{summary.get('time/total_s', 0):.0f} s"
    return f"{start}loss {summary.get('val/loss', float('nan')):.4f}  [dim]{duration}[/]"


def describe_progress(
    study_folder: StudyFolder,
    cells: dict[str, dict[str, Any]],
    states: dict[str, CellState],
    *,
    seconds: dict[str, float],
    jobs: int,
) -> str:
    """Return how many cells are done, running and left, and about how long that takes.

    seconds  estimated, of each cell that was not done when the study began
    """
    done = failed = left = 0
    running = []
    for key, cell in cells.items():
        state = states.get(key, CellState())
        if state.status in TERMINAL_STATES:
            done += 1
        elif state.status == "failed":
            failed += 1
        elif state.status == "running":
            running.append(_describe_running_cell(study_folder, cell, state))
        else:
            left += 1
    parts = [f"{done} of {len(cells)} done"]
    parts += [f"[red]{failed} failed[/]"] if failed else []
    parts += [f"running {', '.join(running)}"] if running else []
    parts += [f"{left} left"] if left else []
    if seconds_left := estimate_seconds_left(study_folder, cells, states, seconds):
        parts.append(f"about {format_minutes(seconds_left / max(1, jobs) / 60)}")
    return ", ".join(parts)


def estimate_seconds_left(
    study_folder: StudyFolder, cells: dict[str, dict[str, Any]], states: dict[str, CellState], seconds: dict[str, float]
) -> float:
    """Return the seconds of training that are left.

    Probed times are corrected by how the finished cells kept to them.
    """
    actual = expected = 0.0
    for key, state in states.items():
        # a reused run's time is of another day, perhaps of another machine
        if key in cells and state.status == "finished" and not state.reused:
            actual += _read_summary(study_folder.pool / state.run).get("time/total_s", 0)
            expected += seconds.get(key, 0)
    # how this machine has kept to the estimate; until a cell has finished there is nothing to correct by
    rate = actual / expected if actual and expected else 1.0
    seconds_left = 0.0
    for key, cell in cells.items():
        state = states.get(key, CellState())
        if state.status not in ENDED_STATES:
            done = _fraction_done(study_folder, cell, state) if state.status == "running" else 0
            seconds_left += rate * seconds.get(key, 0) * (1 - done)
    return seconds_left


def _describe_running_cell(study_folder: StudyFolder, cell: dict[str, Any], state: CellState) -> str:
    return f"{escape(cell['label'])} seed {cell['seed']} ({_fraction_done(study_folder, cell, state):.0%})"


def _fraction_done(study_folder: StudyFolder, cell: dict[str, Any], state: CellState) -> float:
    """Return the share of a running cell's steps that its log shows."""
    # taken, but its run has no folder yet
    if not state.run:
        return 0.0
    # from the log's rows: checkpoints are too far apart to show progress
    last = max((row["step"] for row in read_rows(study_folder.pool / state.run / "metrics.jsonl")), default=0)
    return min(1.0, last / cell["config"]["steps"])


def _read_summary(folder: Path) -> dict[str, Any]:
    """Return the numbers and texts of a summary, as far as they are such."""
    try:
        summary = read_json(folder / "summary.json")
    # asked while another process may be writing it
    except (OSError, ValueError):
        return {}
    return {key: value for key, value in summary.items() if isinstance(value, int | float if "/" in key else str)}


# -- from another terminal


def print_study_state(study_folder: StudyFolder, console: Console) -> None:
    """Print the state of every cell of a study."""
    cells, states, plan = study_folder.read_cells(), study_folder.read_states(), study_folder.plan
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("arm", "seed", "state", ""):
        table.add_column(name, overflow="fold")
    for key, words in _describe_cells(study_folder, cells, states):
        table.add_row(escape(cells[key]["label"]), str(cells[key]["seed"]), *words)
    progress = describe_progress(study_folder, cells, states, seconds=plan.seconds, jobs=plan.jobs)
    console.print(f"[bold]{escape(study_folder.path.name)}[/]   {progress}", soft_wrap=True)
    console.print(table)


def describe_study(folder: Path) -> str:
    """Return where the study of a folder stands, in a line of plain text."""
    study_folder = StudyFolder(folder)
    cells, states, plan = study_folder.read_cells(), study_folder.read_states(), study_folder.plan
    line = describe_progress(study_folder, cells, states, seconds=plan.seconds, jobs=plan.jobs)
    # the line is made for rich; a page and a program want the words
    return Text.from_markup(line).plain


def list_cell_states(study_folder: StudyFolder) -> list[dict[str, Any]]:
    """Return the state of every cell as plain data, for programs."""
    cells, states = study_folder.read_cells(), study_folder.read_states()
    rows = []
    for key, cell in cells.items():
        state = states.get(key, CellState())
        rows.append(
            {
                "arm": cell["label"],
                "seed": cell["seed"],
                "state": state.status,
                "run": state.run,
                "reason": state.reason,
                "log": state.log,
            }
        )
    return rows


def _describe_cells(
    study_folder: StudyFolder, cells: dict[str, dict[str, Any]], states: dict[str, CellState]
) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield the key of each cell with its state in words: how far it is, its loss, or what went wrong."""
    for key, cell in cells.items():
        state = states.get(key, CellState())
        if state.status == "running":
            yield key, ("running", f"{_fraction_done(study_folder, cell, state):.0%} {escape(state.owner)}")
        elif state.status == "finished":
            yield key, ("finished", _describe_loss(study_folder.pool / state.run) if state.run else "measured")
        else:
            yield key, (state.status, escape(" ".join(filter(None, (state.reason, state.log)))))


def _describe_loss(run: Path) -> str:
    """Return the loss of a finished run; a run that was moved, removed or damaged has none."""
    loss = _read_summary(run).get("val/loss")
    if loss is not None:
        return f"loss {loss:.4f}"
    what = "summary.json is damaged" if (run / "summary.json").is_file() else "run is gone"
    return f"its {what}: {escape(str(run))}"
