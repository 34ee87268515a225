"""List all runs of an outputs folder in a table, the best first."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from gptlab.config.menu import TRAIN
from gptlab.console.json_answer import add_to_answer, is_json_wanted
from gptlab.console.units import format_duration, relative_to_cwd
from gptlab.errors import Refused
from gptlab.runs.outputs import list_run_folders
from gptlab.runs.record import RunFolder, read_json, read_rows


def print_runs(outputs: Path) -> None:
    """Print the table; a program that asked for JSON has every summary too."""
    if outputs.exists() and not outputs.is_dir():
        raise Refused(f"--outputs={outputs} is no folder; give the one that holds runs/")
    if not (outputs / "runs").exists() and any(outputs.glob("*/run.json")):
        raise Refused(f"--outputs={outputs} is a folder of runs itself; say --outputs {outputs.resolve().parent}")
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("run", overflow="fold")
    for name in ("val/loss", "bits/byte", "params", "steps", "time", "status"):
        table.add_column(name, justify="right", no_wrap=True)
    rows = sorted(map(_describe_run, list_run_folders(outputs)), key=lambda line: line[0])
    for _, *cells in rows:
        table.add_row(*cells)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200  # a line a run, for other programs
    console.print(table if rows else f"no runs in {outputs / 'runs'} yet; start one: {TRAIN}")
    if is_json_wanted():
        add_to_answer(runs=read_runs(relative_to_cwd(outputs)))


def read_runs(outputs: Path) -> list[dict[str, Any]]:
    """Return folder, status and summary of every run, the best first."""
    # the order of the table, so that a program and a reader speak of the same first run
    names = sorted(map(_describe_run, list_run_folders(outputs)), key=lambda line: line[0])
    return [_read_run(outputs / "runs" / name) for _, name, *_ in names]


def _read_run(folder: Path) -> dict[str, Any]:
    try:
        summary = read_json(folder / "summary.json")
    except (Refused, OSError):
        summary = {}
    return {"folder": str(folder), "status": summary.get("status", "unfinished"), "summary": summary}


def _describe_run(folder: Path) -> tuple[float, *tuple[str, ...]]:
    summary: dict[str, Any]
    try:
        summary = read_json(folder / "summary.json") if (folder / "summary.json").exists() else {}
        last_step = max((row.get("step", 0) for row in read_rows(folder / "metrics.jsonl")), default=0)
    except Refused:
        summary, last_step = {"status": "not whole"}, 0
    if not isinstance(summary.get("status", ""), str):
        summary = {"status": "not whole"}
    try:
        return _describe_summary(folder, summary, last_step)
    except (TypeError, ValueError):  # a text where a number is meant; one such run hides no other
        return _describe_summary(folder, {"status": "not whole"}, 0)


def _describe_summary(folder: Path, summary: dict[str, Any], last_step: int) -> tuple[float, *tuple[str, ...]]:
    loss = summary.get("val/loss")
    step = summary.get("steps", last_step)
    return (
        # runs without a loss stand last
        loss if loss is not None else float("inf"),
        folder.name,
        f"{loss:.4f}" if loss is not None else "",
        f"{summary['val/bits_per_byte']:.3f}" if "val/bits_per_byte" in summary else "",
        f"{summary['params']:,}" if "params" in summary else "",
        f"{step:,}",
        format_duration(summary["time/total_s"]) if "time/total_s" in summary else "",
        summary.get("status", "at work" if RunFolder(folder).is_busy() else "unfinished"),
    )
