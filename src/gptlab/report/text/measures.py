"""Columns of all that is measured beside the metric that decides: qualities, times, sizes."""

from dataclasses import replace

from gptlab.report.text.columns import Column, build_name_column, drop_empty_columns
from gptlab.report.text.numbers import align_decimal_points, format_change, format_value, get_interval
from gptlab.report.text.view import MARKS, View
from gptlab.stats.results import STEP, WRITE, Comparison, Metric, Timing

LAST = ("memory/peak_bytes", "cache_bytes_per_token", "params", "params_active", "flops_per_token")
"""Costs that stand behind the times."""
WEAK = "(weak)"
"""Before the head of a downstream task with too little signal, also where nothing can be grey."""


def build_cost_columns(view: View) -> list[Column]:
    """Return every other metric: its value, its change in percent, and the mark of its verdict."""
    measures = [measure for measure in (*view.others, *view.stratum.timings) if not is_shared_count(measure)]
    columns = []
    for measure in sorted(measures, key=_rank_measure):
        is_comparison = isinstance(measure, Comparison)
        columns.append(_build_metric_column(view, measure) if is_comparison else _build_timing_column(view, measure))
    columns = drop_empty_columns(columns)
    if not columns:
        return []
    names = build_name_column(view)
    # an arm of which nothing was measured has no row
    rows = []
    for row in range(len(names.cells)):
        if any(column.cells[row].strip() for column in columns):
            rows.append(row)
    table = []
    for column in (names, *columns):
        table.append(replace(column, cells=[column.cells[row] for row in rows]))
    return table


def is_shared_count(measure: Comparison | Timing) -> bool:
    """Return whether this is a count, as of parameters, that is the same for all arms."""
    if not isinstance(measure, Comparison) or measure.metric.seeded:
        return False
    return not any(contrast.difference for contrast in measure.contrasts)


def describe_shared_counts(view: View) -> str:
    """Return a sentence of the counts that are the same for all arms; empty if there are none."""
    counts = []
    for comparison in sorted(view.others, key=_rank_measure):
        metric, mean = comparison.metric, comparison.arms[0].mean
        if is_shared_count(comparison) and mean is not None:
            counts.append(f"{metric.name} {format_value(metric, mean)}{_format_unit(metric)}")
    return f"The same for all arms: {', '.join(counts)}." if counts else ""


def _rank_measure(measure: Comparison | Timing) -> int:
    """Return the place of a measure: qualities first, then times, then sizes."""
    keys = (STEP.key, WRITE.key, *LAST)
    return keys.index(measure.metric.key) + 1 if measure.metric.key in keys else 0


def _format_unit(metric: Metric) -> str:
    """Return a unit as it follows its number: 4,096 bytes/token, 1.66 M/token."""
    unit = metric.unit.removeprefix(metric.name)
    return unit if unit.startswith("/") or not unit else f" {unit}"


def _build_metric_column(view: View, comparison: Comparison) -> Column:
    """Return a column of means, each with its change from the baseline and the mark of its verdict."""
    contrasts = {contrast.arm: contrast for contrast in comparison.contrasts}
    half_widths = {}
    for arm, contrast in contrasts.items():
        if ends := get_interval(contrast):
            half_widths[arm] = (ends[1] - ends[0]) / 2
    # the baseline has no interval of its own: it takes the digits of the arm that is known best
    half_widths[comparison.baseline] = min(half_widths.values(), default=0.0)
    means = {row.arm: row.mean for row in comparison.arms}
    cells = []
    for arm in view.order:
        mean, contrast = means.get(arm), contrasts.get(arm)
        half_width = half_widths.get(arm, 0.0)
        text = format_value(comparison.metric, mean, half_width) if mean is not None else ""
        # no percentage of 0, and none where nothing changed
        if contrast is None or not contrast.against_mean or not contrast.difference:
            cells.append((text, "", MARKS.get(contrast.verdict, "") if contrast and text else ""))
            continue
        relative = half_width / abs(contrast.against_mean) if comparison.metric.seeded else 0.0
        change = format_change(contrast.mean / contrast.against_mean, relative or None)
        cells.append((text, change, MARKS.get(contrast.verdict, "")))
    column = _join_cells(comparison.metric, cells)
    if comparison.signal is None or not comparison.signal.is_weak:
        return column
    return replace(column, head=f"{WEAK} {column.head}", is_weak=True)


def _build_timing_column(view: View, timing: Timing) -> Column:
    """Return a column of medians, each with its change from the baseline and the mark of its verdict."""
    cells = []
    for arm in view.order:
        text = f"{timing.medians[arm]:.3g}" if arm in timing.medians else ""
        if arm == view.comparison.baseline or arm not in timing.ratios:
            cells.append((text, "", ""))
            continue
        ratio, low, high = timing.ratios[arm]
        cells.append((text, format_change(ratio, (high - low) / 2), MARKS.get(timing.verdicts.get(arm, ""), "")))
    return _join_cells(timing.metric, cells)


def _join_cells(metric: Metric, cells: list[tuple[str, str, str]]) -> Column:
    """Return cells of (value, change, mark) as one column, each part aligned."""
    values = align_decimal_points(value for value, _, _ in cells)
    changes = align_decimal_points(change for _, change, _ in cells)
    marks = [mark or " " for _, _, mark in cells]
    unit = "" if metric.unit == metric.name else metric.unit
    texts = [" ".join(parts) for parts in zip(values, changes, marks, strict=True)]
    return Column(f"{metric.name}\n{unit}".strip(), texts)
