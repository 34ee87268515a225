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
    is_estimated: bool = False  # the milliseconds, from FLOPs


@dataclass(frozen=True, kw_only=True)
class Bill:
    """The cost of a study.

    shared      overrides that all arms have
    baselines   names of the arms that are baselines
    minutes     until the last cell ends, with as many at once as there are jobs
    timing_s    seconds that timing the arms takes at most, alone afterwards
    disk_bytes  that these write
    notes       sentences about the study; mismatch: about what the arms do not have alike
    """

    name: str
    shared: list[str]
    lines: list[BillLine]
    baselines: list[str]
    seeds: list[int]
    minutes: float
    jobs: int
    timing_s: float
    disk_bytes: float
    notes: list[str]
    mismatch: list[str]


def print_bill(bill: Bill, console: Console) -> None:
    """Print the bill."""
    total = sum(line.cells for line in bill.lines)
    to_run = sum(line.to_run for line in bill.lines)
    console.print(f"[bold]{escape(bill.name)}[/]   {escape(' '.join(bill.shared))}", soft_wrap=True)
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("  arm, * baseline", overflow="fold")
    for column in ("parameters", "FLOPs/token", "cache B/token", "ms/step", "cells", "to run"):
        table.add_column(column, justify="right", no_wrap=True)
    for item in bill.lines:
        mark = " *" if item.name in bill.baselines else ""
        table.add_row(
            f"  {escape(item.name)}{mark}",
            *_format_counts(item.counts),
            # of a probe on this machine, this minute; verdicts on speed come of the timing at the end
            _format_step_time(item),
            *map(str, (item.cells, item.to_run)),
        )
    console.print(table)
    # what matching has set, arm by arm, before what is not alike all the same
    adjusted = [f"{item.name}: {adjustment}" for item in bill.lines for adjustment in item.adjustments]
    for line in (*adjusted, *bill.mismatch, *bill.notes):
        console.print(f"  {escape(line)}", soft_wrap=True, style="dim")
    summary = f"{total} cells, seeds {', '.join(map(str, bill.seeds))}: {total - to_run} done, {to_run} to run"
    if to_run:
        at_once = f" with {bill.jobs} at once" if bill.jobs > 1 else ""
        timing = f", then at most {format_minutes(bill.timing_s / 60)} of timing" if bill.timing_s else ""
        summary += f"; about {format_minutes(bill.minutes)}{at_once}{timing}, {bill.disk_bytes / 1e6:.0f} MB"
    console.print(f"  {summary}", soft_wrap=True)


def _format_counts(counts: dict[str, float]) -> list[str]:
    keys = ("params", "flops_per_token", "cache_bytes_per_token")
    cells = [f"{counts[key]:,.0f}" if key in counts else "" for key in keys]
    # a mixture's token meets a part of its parameters alone
    if (active := counts.get("params_active")) and active != counts["params"]:
        cells[0] = f"{cells[0]}, {active:,.0f} active"
    return cells


def _format_step_time(item: BillLine) -> str:
    return "" if item.step_ms is None else f"{'about ' * item.is_estimated}{item.step_ms:.1f}"
