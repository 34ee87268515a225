"""The bill of a study: what it will cost, printed before it costs anything."""

from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gptlab.console.units import format_minutes


@dataclass(frozen=True)
class BillLine:
    """One arm: its counts, milliseconds a step, how many cells it has and how many are to run, and its adjustments."""

    name: str
    counts: dict[str, float]
    step_ms: float | None
    cells: int
    to_run: int
    adjustments: list[str]


def print_bill(
    console: Console,
    name: str,
    shared: list[str],
    items: list[BillLine],
    baselines: list[str],
    seeds: list[int],
    minutes: float,
    jobs: int,
    disk: float,
    notes: list[str],
    mismatch: list[str],
) -> None:
    """Print the bill."""
    total, to_run = sum(item.cells for item in items), sum(item.to_run for item in items)
    console.print(f"[bold]{escape(name)}[/]   {escape(' '.join(shared))}", soft_wrap=True)
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("  arm", overflow="fold")
    for column in ("parameters", "FLOPs/token", "cache B/token", "ms/step", "cells", "to run"):
        table.add_column(column, justify="right", no_wrap=True)
    for item in items:
        mark = " *" if item.name in baselines else ""
        table.add_row(
            f"  {escape(item.name)}{mark}",
            *_format_counts(item.counts),
            _format_step_time(item),
            *map(str, (item.cells, item.to_run)),
        )
    console.print(table)
    for line in [f"{item.name}: {adjustment}" for item in items for adjustment in item.adjustments] + mismatch + notes:
        console.print(f"  {escape(line)}", soft_wrap=True, style="dim")
    summary = f"{total} cells, seeds {', '.join(map(str, seeds))}: {total - to_run} done, {to_run} to run"
    if to_run:
        at_once = f", {jobs} at once" if jobs > 1 else ""
        summary += f"; about {format_minutes(minutes)}{at_once}, {disk / 1e6:.0f} MB"
    console.print(f"  {summary}", soft_wrap=True)


def _format_counts(counts: dict[str, float]) -> list[str]:
    return [
        f"{counts[key]:,.0f}" if key in counts else "" for key in ("params", "flops_per_token", "cache_bytes_per_token")
    ]


def _format_step_time(item: BillLine) -> str:
    return "" if item.step_ms is None else f"{item.step_ms:.1f}"
