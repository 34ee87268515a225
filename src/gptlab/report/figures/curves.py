"""Times and other numbers over sizes: arms or metrics that are points of a curve, as lines over that size."""

from collections.abc import Mapping

from gptlab.report.figures.parts import GREY, assign_colours, make_axis, make_line
from gptlab.report.model import Figure
from gptlab.report.text.view import View
from gptlab.stats.measurements import Measurements

# -- measurements


def draw_size_curves(measurements: Measurements, numbers: Mapping[str, Mapping[str, float]]) -> list[Figure]:
    """Draw numbers of a study by metric and arm, a figure for each size that has two values or more.

    Both axes are logarithmic, so that a power is a straight line.
    """
    figures: dict[tuple[str, str], dict[str, dict[float, float]]] = {}
    for metric, by_arm in numbers.items():
        for arm, number in by_arm.items():
            if point := measurements.find_metric_point(metric):  # all arms at one size
                quantity, line = point.line or "ms", arm
            elif point := measurements.find_point(arm):
                quantity, line = metric, point.line or metric
            else:
                continue
            # a figure for each quantity and size, in it a line, on it points
            lines = figures.setdefault((quantity, point.size), {})
            lines.setdefault(line, {})[point.value] = number
    drawn = []
    for (quantity, size), lines in figures.items():
        values: set[float] = set()
        for points in lines.values():
            values |= {*points}
        if len(values) > 1:  # one value makes no line
            drawn.append(_draw_size_figure(quantity, size, lines))
    return drawn


def are_size_points(measurements: Measurements, numbers: Mapping[str, float]) -> bool:
    """Return whether all arms are points of sizes, with numbers that a logarithmic scale can show."""
    # a logarithm shows neither 0 nor less
    return all(measurements.find_point(arm) for arm in numbers) and min(numbers.values()) > 0


def _draw_size_figure(quantity: str, size: str, lines: dict[str, dict[float, float]]) -> Figure:
    """Draw a quantity over a size, a line for each name; both axes are logarithmic."""
    colours, traces, rows = assign_colours([*lines]), [], []
    for name, points in lines.items():
        points = dict(sorted(points.items()))
        traces.append(make_line([*points], [*points.values()], name, colours[name], mode="lines+markers"))
        rows += [(name, value, number) for value, number in points.items()]
    ticks = {"type": "log", "tickmode": "array", "tickvals": sorted({value for _, value, _ in rows})}
    return Figure(
        title=f"{quantity} over {size}",
        data=traces,
        layout={"xaxis": make_axis(size, **ticks), "yaxis": make_axis(quantity, type="log"), "height": 320},
        alt="; ".join(f"{name} at {value}: {number:.4g}" for name, value, number in rows),
        heads=("", size, quantity),
        rows=rows,
    )


# -- the metric that decides

Levels = dict[float, tuple[float, float, float]]
"""Mean, low and high by the value of a size."""


def draw_levels(view: View) -> list[Figure]:
    """Draw the metric that decides over the sizes that arms are at, as `ptq width=4`.

    Means have the interval of their difference from the baseline, which is a dashed line.
    """
    means = {row.arm: row.mean for row in view.comparison.arms if row.mean is not None}
    baseline = means.get(view.comparison.baseline)
    if baseline is None:
        return []
    figures: dict[str, dict[str, Levels]] = {}
    for arm, mean in means.items():
        point, contrast = view.find_point(arm), view.contrasts.get(arm)
        if point is None:
            continue
        # the interval is of the difference; around the mean it would be wider, as seeds move all arms alike
        ends = (baseline + contrast.low, baseline + contrast.high) if contrast else (mean, mean)
        figures.setdefault(point.size, {}).setdefault(point.line or point.size, {})[point.value] = (mean, *ends)
    return [
        _draw_level_figure(view, size, lines, baseline)
        for size, lines in figures.items()
        # two points make no curve that the table would not show
        if max(map(len, lines.values())) > 2
    ]


def _draw_level_figure(view: View, size: str, lines: dict[str, Levels], baseline: float) -> Figure:
    """Draw the metric that decides over a size, a line for each name, with the baseline as a dashed line."""
    metric = view.comparison.metric
    colours, traces, rows = assign_colours([*lines]), [], []
    for name, levels in lines.items():
        levels = dict(sorted(levels.items()))
        means = [mean for mean, _, _ in levels.values()]
        below = [mean - low for mean, low, _ in levels.values()]
        above = [high - mean for mean, _, high in levels.values()]
        # in the colour of the line
        error_bars = {"type": "data", "symmetric": False, "thickness": 1, "array": above, "arrayminus": below}
        traces.append(make_line([*levels], means, name, colours[name], mode="lines+markers", error_y=error_bars))
        rows += [(name, value, *level) for value, level in levels.items()]
    # only where something was measured: in between nothing is known
    ticks = sorted({value for _, value, *_ in rows})
    dashed = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": baseline, "y1": baseline}
    return Figure(
        title=f"{metric.name} over {size}",
        data=traces,
        layout={
            "xaxis": make_axis(size, tickmode="array", tickvals=ticks),
            "yaxis": make_axis(f"{metric.name}, {metric.unit}"),
            "height": 340,
            "shapes": [{**dashed, "line": {"color": GREY, "dash": "dash", "width": 1.5}}],
        },
        alt="; ".join(f"{name} at {value}: {mean:.4g}" for name, value, mean, *_ in rows),
        heads=("", size, metric.name, "low", "high"),
        rows=rows,
        note=f"Dashed: {view.short_name(view.comparison.baseline)}. Bars: 95 % of the difference.",
    )
