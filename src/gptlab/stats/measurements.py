"""Tables of a study that measures without training. Pure.

A value that is the same each time is a mean over blocks. A time is a list, one value for each round in which all arms
took turns: it is judged by ratios to the baseline, against how far the baseline differs from itself (`timing`).
"""

import csv
import dataclasses
import io
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from gptlab.stats.elasticity import Slope, judge_slope
from gptlab.stats.labels import ArmValues, SizePoint, read_point
from gptlab.stats.results import Metric, Timing
from gptlab.stats.study_plan import StudyPlan
from gptlab.stats.timing import AA_CONTROL, compare_times


class Row(NamedTuple):
    """One measurement. `metric` names its unit; `value` is a number, or milliseconds round by round.

    arm_values     (knob, value) pairs of an arm that is a point of a curve; none for those of the study's plan
    metric_values  the same of a metric that was measured at several sizes
    """

    arm: str
    block: int
    metric: str
    value: float | list[float]
    arm_values: ArmValues = ()
    metric_values: ArmValues = ()


@dataclass(frozen=True)
class Measurements:
    """All numbers of a study: means by metric and arm, and the times.

    arm_values     (knob, value) pairs by arm
    metric_values  by metric, of those that were measured at several sizes
    """

    plan: StudyPlan
    baseline: str
    arms: list[str]
    values: dict[str, dict[str, float]]
    timings: list[Timing]
    rows: list[Row]
    after: list[str]  # what the study that followed says
    arm_values: dict[str, ArmValues]
    metric_values: dict[str, ArmValues]

    @property
    def study(self) -> str:
        """The study's name."""
        return self.plan.study

    def find_point(self, arm: str) -> SizePoint | None:
        """Return the point of a curve that an arm is, None if it is none."""
        return read_point(self.arm_values.get(arm, ()))

    def find_metric_point(self, metric: str) -> SizePoint | None:
        """Return the point of a curve at which a metric was measured, None if there is no such size."""
        return read_point(self.metric_values.get(metric, ()))


def summarize_rows(plan: StudyPlan, rows: list[Row], after: Sequence[str] = ()) -> Measurements:
    """Average the rows by metric and arm, and compare the times with the baseline's."""
    arms = list(dict.fromkeys(row.arm for row in rows if row.arm != AA_CONTROL))
    baseline = next(iter(arms), "")  # no knob chooses another: a measuring study refuses `baseline`
    numbers: dict[str, dict[str, list[float]]] = {}
    rounds: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        table, values_of_row = (rounds, row.value) if isinstance(row.value, list) else (numbers, [row.value])
        table.setdefault(row.metric, {}).setdefault(row.arm, []).extend(values_of_row)
    values: dict[str, dict[str, float]] = {}
    for metric, by_arm in numbers.items():
        values[metric] = {arm: statistics.fmean(numbers_of_arm) for arm, numbers_of_arm in by_arm.items()}
    arm_values: dict[str, ArmValues] = {}
    metric_values: dict[str, ArmValues] = {}
    for row in rows:
        if row.arm != AA_CONTROL:
            arm_values[row.arm] = row.arm_values or plan.get_values(row.arm)
        if row.metric_values:
            metric_values[row.metric] = row.metric_values
    # rounds of all blocks in one list: turns were taken in each, so round n of every arm is one moment
    compared = [compare_times(Metric(key, key, key), times, "", baseline) for key, times in rounds.items()]
    return Measurements(
        plan=plan,
        baseline=baseline,
        arms=arms,
        values=values,
        timings=[timing for timing in compared if timing is not None],
        rows=rows,
        after=[*after],
        arm_values=arm_values,
        metric_values=metric_values,
    )


WIDTH, DEPTH = "width of the stream", "number of layers"
"""Sizes of a coordinate check."""
DRAWN_SIZES = ("trial", "call", WIDTH, DEPTH)
"""Sizes whose points are drawn, and not listed: each is one moment of something that goes on."""


def format_tables(measurements: Measurements) -> list[tuple[list[str], list[list[str]]]]:
    """Return a table (heads, rows) of the timed arms, and one of the others, such as slopes over times."""
    timed, untimed = [], []
    for arm in measurements.arms:
        point = measurements.find_point(arm)
        if any(arm in timing.medians for timing in measurements.timings):
            timed.append(arm)
        elif point is None or point.size not in DRAWN_SIZES:
            untimed.append(arm)
    return [_format_cells(measurements, arms) for arms in (timed, untimed) if arms]


def _format_cells(measurements: Measurements, arms: list[str]) -> tuple[list[str], list[list[str]]]:
    """Return the heads and a row of texts for each arm, or for each metric if there are many."""
    timings = [timing for timing in measurements.timings if {*arms} & timing.medians.keys()]
    values = {metric: numbers for metric, numbers in measurements.values.items() if {*arms} & numbers.keys()}
    heads = ["arm"]
    for timing in timings:
        heads += [timing.metric.name, "ratio", "verdict"]
    heads += [*values]
    lines = []
    for arm in arms:
        line = [arm]
        for timing in timings:
            line += [f"{timing.medians[arm]:.4g}" if arm in timing.medians else "", *_format_ratio(timing, arm)]
        line += [_format_number(numbers.get(arm)) for numbers in values.values()]
        lines.append(line)
    if len(heads) > MAX_COLUMNS and len(heads) > len(lines):  # too wide to be read: a line a metric
        heads, *lines = (list(column) for column in zip(heads, *lines, strict=True))
    return heads, lines


MAX_COLUMNS = 9
"""Columns of a table."""


def _format_ratio(timing: Timing, arm: str) -> tuple[str, str]:
    if arm not in timing.ratios:
        return "", ""
    ratio, low, high = timing.ratios[arm]
    return f"{ratio:.3f} [{low:.3f}, {high:.3f}]", timing.verdicts[arm]


def _format_number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.4g}"


def describe_clocks(measurements: Measurements) -> list[str]:
    """Return a sentence for each timing: rounds, and the smallest difference that it can tell."""
    sentences = []
    for timing in measurements.timings:
        how = f"{timing.rounds} rounds, the median of their ratios to {measurements.baseline} with a 95 % interval"
        spread = f"it differs from itself by up to {timing.spread:.1%}, below which nothing is told apart"
        sentences.append(f"{timing.metric.name}: {how}; {spread}")
    return sentences


def print_measurements(measurements: Measurements, console: Console) -> None:
    """Print the tables and notes of a study."""
    for heads, lines in format_tables(measurements):
        table = Table(box=None, header_style="bold", pad_edge=False)
        for number, head in enumerate(heads):
            table.add_column(head, justify="right" if number else "left", overflow="fold")
        for line in lines:
            table.add_row(*line)
        console.print(table)
    for note in describe_clocks(measurements):
        console.print(note, style="dim", markup=False)
    for line in judge_coordinates(measurements):
        console.print(line.replace("**", ""), markup=False)
    for line in measurements.after:
        console.print(f"trained anew: {line}", markup=False)


class ActivationSlope(NamedTuple):
    """How the size or the change of one kind of activation follows the width or the depth."""

    arm: str
    kind: str
    dimension: str
    quantity: str
    slope: Slope


def list_slopes(measurements: Measurements) -> list[ActivationSlope]:
    """Return the slopes of a coordinate check; none of any other study."""
    if measurements.plan.kind != "coordinate_check":
        return []
    slopes = []
    for label, pairs in measurements.arm_values.items():
        if label not in measurements.values["slope of change"]:
            continue  # a point of a curve
        (_, arm), (_, kind), (_, dimension) = pairs
        for quantity in ("change", "size"):
            ends = (measurements.values[f"{end} of {quantity}"][label] for end in ("slope", "low", "high"))
            slope = Slope(*ends)
            slopes.append(ActivationSlope(arm=arm, kind=kind, dimension=dimension, quantity=quantity, slope=slope))
    return slopes


def judge_coordinates(measurements: Measurements) -> list[str]:
    """Return a sentence for each arm and dimension of a coordinate check, with the arm in stars; none for others."""
    words: dict[tuple[str, str], dict[str, list[tuple[Slope, str]]]] = {}
    tolerance = (measurements.plan.knobs or {}).get("tolerance", 0.0)
    for arm, kind, dimension, quantity, slope in list_slopes(measurements):
        word: str = judge_slope(slope, tolerance)
        # a size may shrink, and so may all of the logits, which muP begins at 1 / sqrt(width)
        if slope.high <= tolerance and (quantity == "size" or kind == "logits"):
            word = "stands"
        text = f"the {quantity} of {kind}, {slope.value:+.2f} ({slope.low:+.2f} to {slope.high:+.2f})"
        words.setdefault((arm, dimension), {}).setdefault(word, []).append((slope, text))
    return [_describe_check(arm, dimension, by_word, tolerance) for (arm, dimension), by_word in words.items()]


def _describe_check(name: str, dimension: str, words: dict[str, list[tuple[Slope, str]]], tolerance: float) -> str:
    """Return the sentence of one arm over one dimension; `words`: slopes and their texts, by what was judged."""
    over = f"**{name}** {{}} over {dimension}: "
    failures = []
    for word in ("grows", "shrinks"):
        failures += [(slope, f"{text}, {word}") for slope, text in words.get(word, [])]
    unresolved, standing = words.get("not resolved", []), words.get("stands", [])
    # the steepest says most; the table has the others
    slope, text = max(failures or unresolved or standing, key=lambda pair: abs(pair[0].value))
    others = len(failures or unresolved) - 1
    more = f", and {others} more" if others > 0 else ""
    if failures:
        return over.format("fails") + f"{text} as {dimension}^{slope.value:.2f}{more}."
    if unresolved:
        return over.format("is not resolved") + f"{text}{more}; more draws or sizes would tell."
    return over.format("passes") + f"no slope is beyond {tolerance:g}, interval and all; the steepest is {text}."


def write_results_csv(rows: Iterable[Row]) -> str:
    """Return results.csv: one line for each value."""
    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow(["arm", "block", "metric", "round", "value"])
    for row in rows:
        values = row.value if isinstance(row.value, list) else [row.value]
        lines.writerows([row.arm, row.block, row.metric, number, value] for number, value in enumerate(values))
    return file.getvalue()


def to_document(measurements: Measurements) -> dict[str, Any]:
    """Return comparison.json as plain data, without the rounds, which results.csv holds."""
    # a page and a program want the results; the rounds are thousands of numbers
    document = dataclasses.asdict(measurements)
    del document["rows"], document["plan"]
    return {"study": measurements.study, "asked": measurements.plan.to_document(), **document}
