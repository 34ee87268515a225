"""What a study measured without training: rows to tables. Pure.

A number that is the same each time is a mean over blocks. A time is a list, one number a round in which all arms took
turns: it is judged by ratios to the baseline, against what the baseline differs from itself (`turns`).
"""

import csv
import dataclasses
import io
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from gptlab.stats.labels import named
from gptlab.stats.results import Metric, Timing
from gptlab.stats.timing import TWIN, timing


class Row(NamedTuple):
    """One measurement. `metric` names its unit; `value` is a number, or milliseconds round by round."""

    arm: str
    block: int
    metric: str
    value: float | list[float]


@dataclass(frozen=True)
class Measured:
    """A study's numbers: means by metric and arm, and the times."""

    study: str
    asked: dict[str, Any]
    baseline: str
    arms: list[str]
    values: dict[str, dict[str, float]]
    timings: list[Timing]
    rows: list[Row]
    after: list[str]  # what the study that followed says


def measured(asked: dict[str, Any], rows: list[Row], after: Sequence[str] = ()) -> Measured:
    """All that the rows say."""
    arms = list(dict.fromkeys(row.arm for row in rows if row.arm != TWIN))
    baseline = named(asked["baseline"], arms) if asked.get("baseline") else next(iter(arms), "")
    numbers: dict[str, dict[str, list[float]]] = {}
    rounds: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        kind, more = (rounds, row.value) if isinstance(row.value, list) else (numbers, [row.value])
        kind.setdefault(row.metric, {}).setdefault(row.arm, []).extend(more)
    values = {key: {arm: statistics.fmean(found) for arm, found in one.items()} for key, one in numbers.items()}
    found = [timing(Metric(key, key, key), times, "", baseline) for key, times in rounds.items()]
    return Measured(asked["study"], asked, baseline, arms, values, [one for one in found if one], rows, [*after])


ON_THE_WAY = re.compile(r" (?:trial|call)=\d+$")
"""Arms that are points of a curve: drawn, and not listed."""


def tables(found: Measured) -> list[tuple[list[str], list[list[str]]]]:
    """What was timed, and apart from it what was not, such as slopes over what was."""
    timed = [arm for arm in found.arms if any(arm in one.medians for one in found.timings)]
    rest = [arm for arm in found.arms if arm not in timed and not ON_THE_WAY.search(arm)]
    return [_cells(found, arms) for arms in (timed, rest) if arms]


def _cells(found: Measured, arms: list[str]) -> tuple[list[str], list[list[str]]]:
    """Heads, and a row of texts for each arm, or for each metric if they are many."""
    timings = [one for one in found.timings if any(arm in one.medians for arm in arms)]
    values = {key: one for key, one in found.values.items() if any(arm in one for arm in arms)}
    heads = ["arm"]
    for one in timings:
        heads += [one.metric.name, "ratio", "verdict"]
    heads += [*values]
    lines = []
    for arm in arms:
        line = [arm]
        for one in timings:
            line += [f"{one.medians[arm]:.4g}" if arm in one.medians else "", *_ratio(one, arm)]
        lines.append([*line, *(_shown(one.get(arm)) for one in values.values())])
    if len(heads) > MOST and len(heads) > len(lines):  # too wide to be read: a line a metric
        heads, *lines = (list(column) for column in zip(heads, *lines, strict=True))
    return heads, lines


MOST = 9
"""Columns of a table."""


def _ratio(one: Timing, arm: str) -> tuple[str, str]:
    if arm not in one.ratios:
        return "", ""
    ratio, low, high = one.ratios[arm]
    return f"{ratio:.3f} [{low:.3f}, {high:.3f}]", one.verdicts[arm]


def _shown(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.4g}"


def notes(found: Measured) -> list[str]:
    """What the clocks could tell."""
    return [
        f"{one.metric.name}: {one.rounds} rounds, the median of their ratios to {found.baseline} with a 95 % interval; "
        f"it differs from itself by up to {one.spread:.1%}, below which nothing is told apart"
        for one in found.timings
    ]


def show(found: Measured, console: Console) -> None:
    """Prints a study."""
    for heads, lines in tables(found):
        table = Table(box=None, header_style="bold", pad_edge=False)
        for number, head in enumerate(heads):
            table.add_column(head, justify="right" if number else "left", overflow="fold")
        for line in lines:
            table.add_row(*line)
        console.print(table)
    for note in notes(found):
        console.print(note, style="dim", markup=False)
    for line in found.after:
        console.print(f"trained anew: {line}", markup=False)


def results(rows: Iterable[Row]) -> str:
    """results.csv: a line a number."""
    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow(["arm", "block", "metric", "round", "value"])
    for row in rows:
        each = row.value if isinstance(row.value, list) else [row.value]
        lines.writerows([row.arm, row.block, row.metric, number, value] for number, value in enumerate(each))
    return file.getvalue()


def document(found: Measured) -> dict[str, Any]:
    """comparison.json as plain data, the rounds aside, which results.csv has."""
    return {key: value for key, value in dataclasses.asdict(found).items() if key != "rows"}
