"""The figures of a study, each with its numbers and its words. Plain plotly JSON.

Text and lines take the page's colour when drawn.
"""

import math
from collections.abc import Mapping
from statistics import fmean
from typing import Any

from gptlab.report.figures.parts import (
    GREY,
    assign_arm_colours,
    assign_colours,
    make_axis,
    make_band,
    make_difference_axis,
    make_error_bars,
    make_line,
    make_margin,
)
from gptlab.report.history import MAX_POINTS, Axis, Curve
from gptlab.report.model import Figure
from gptlab.report.text.forest_plot import render_forest_plot, render_legend
from gptlab.report.text.view import View
from gptlab.stats.results import Comparison, Front, Scaling, Timing

CHARACTERS = 60
"""Width of a plot in characters."""
AXES = {"tokens": "tokens", "seconds": "seconds of training"}


# -- figures of arms


def draw_forest_plot(view: View) -> Figure | None:
    """Draw differences from the baseline with their intervals; None where no arm can be compared."""
    # plotly's y axis goes upwards, tables go downwards
    contrasts = [view.contrasts[arm] for arm in reversed(view.order) if arm in view.contrasts]
    if not contrasts:
        return None
    colours, delta = assign_arm_colours(view), view.comparison.delta
    sentences, rows = [], []
    for c in contrasts:
        sentences.append(f"{c.arm} {c.difference:+.4f}, 95 % interval {c.low:+.4f} to {c.high:+.4f}, {c.label}")
        rows.append((c.arm, c.difference, c.low, c.high, c.p_holm, c.label))
    arms, differences, lows, highs, _, labels = ([*column] for column in zip(*rows, strict=True))
    names = [view.names[arm] for arm in arms]
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": differences,
        "y": names,
        "marker": {"size": 10, "color": [colours[arm] for arm in arms]},
        "error_x": make_error_bars(differences, lows, highs),
        "text": labels,
        "hovertemplate": "%{y}: %{x:.4f}, %{text}<extra></extra>",
    }
    return Figure(
        title="Differences from the baseline, with 95 % intervals",
        data=[trace],
        layout={
            "xaxis": make_difference_axis(view),
            "height": 130 + 38 * len(contrasts),
            "shapes": [make_margin(-delta, delta)],
        },
        alt="; ".join(sentences),
        heads=("arm", "difference", "low", "high", "p (Holm)", "verdict"),
        rows=rows,
        note="The shaded band is the margin of equivalence.",
        text=render_forest_text(view),
    )


def render_forest_text(view: View) -> str:
    """Return the forest plot in characters, for those who read Markdown or a terminal."""
    plot, width = render_forest_plot(view, CHARACTERS), max(map(len, view.names.values()))
    rows = [("", plot.head)]
    rows += [(view.names[arm], cell) for arm, cell in zip(view.order, plot.cells, strict=True)]
    rows += [("", render_legend(view, plot))]
    return "\n".join(f"{name:{width}}  {cell}" for name, cell in rows)


def draw_curves(title: str, unit: str, curves: list[Curve], view: View, *, axis: Axis = "tokens") -> Figure | None:
    """Draw means over tokens or seconds, each with a band; None where no curve has two points."""
    if not curves or max(len(curve.points) for curve in curves) < 2:
        return None
    colours, traces = assign_arm_colours(view), []
    # the legend follows the table
    curves = sorted(curves, key=lambda curve: view.order.index(curve.arm))
    for curve in curves:
        x, mean, low, high = ([*column] for column in zip(*curve.points, strict=True))
        colour = colours.get(curve.arm, GREY)
        if curve.seeds > 1:
            traces += make_band(x, low, high, colour)
        traces.append(make_line(x, mean, view.short_name(curve.arm), colour))
    most_points = max(curve.thinned for curve in curves)
    note = f"Thinned: {len(curves[0].points)} of {most_points} points are shown." if most_points else ""
    if axis == "seconds":  # values are interpolated, which thinning does not say
        note = f"Between logged rows, drawn at {MAX_POINTS} places."
    rows = [(curve.arm, *point) for curve in curves for point in curve.points]
    return Figure(
        title=title,
        data=traces,
        layout={"xaxis": make_axis(AXES[axis]), "yaxis": make_axis(unit), "height": 380},
        alt="; ".join(f"{curve.arm} ends at {curve.points[-1][1]:.4f}" for curve in curves),
        heads=("arm", axis, "mean", "low", "high"),
        rows=rows,
        note=note,
    )


def draw_lines(
    title: str,
    x_title: str,
    lines: Mapping[str, Mapping[Any, float]],
    view: View,
    unit: str = "nats/token",
    **xaxis: Any,
) -> Figure | None:
    """Draw a line for each arm over anything: positions, contexts of history, learning rates, difficulty."""
    longest = max(map(len, lines.values()), default=0)
    if longest < 2:
        return None
    colours = assign_arm_colours(view)
    mode = "lines" if longest > 9 else "lines+markers"  # with many points markers would hide the line
    traces, rows, sentences = [], [], []
    for arm, values in sorted(lines.items(), key=lambda pair: view.order.index(pair[0])):
        x, y = [*values], [*values.values()]
        traces.append(make_line(x, y, view.short_name(arm), colours.get(arm, GREY), mode=mode))
        rows += [(arm, *point) for point in values.items()]
        sentences.append(f"{arm} from {y[0]:.3f} to {y[-1]:.3f}")
    return Figure(
        title=title,
        data=traces,
        layout={"xaxis": make_axis(x_title, **xaxis), "yaxis": make_axis(unit), "height": 340},
        alt="; ".join(sentences),
        heads=("arm", x_title, unit),
        rows=rows,
    )


def draw_seeds(view: View, key: str, values: dict[tuple[str, int], float]) -> Figure | None:
    """Draw every seed as a line across the arms, by `values` of (arm, seed).

    Lines that run alike show what pairing by seed is worth.
    """
    if len({arm for arm, _ in values}) < 2:
        return None
    traces, sentences = [], []
    for seed in sorted({seed for _, seed in values}):
        arms = [arm for arm in view.order if (arm, seed) in values]
        losses = [values[arm, seed] for arm in arms]
        traces.append(make_line([view.names[arm] for arm in arms], losses, f"seed {seed}", mode="lines+markers"))
        sentences.append(f"seed {seed} from {min(losses):.4f} to {max(losses):.4f}")
    return Figure(
        title="Every seed across the arms",
        data=traces,
        # above: names of arms that a narrow screen turns upright would run through it below
        layout={
            "yaxis": make_axis(view.comparison.metric.unit),
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"},
            "height": 360,
        },
        alt="; ".join(sentences),
        heads=("arm", "seed", key),
        rows=[(arm, seed, value) for (arm, seed), value in values.items()],
    )


def draw_bars(title: str, unit: str, values: Mapping[str, list[float]], view: View, *, note: str = "") -> Figure | None:
    """Draw the mean of each arm; an arm without a value has no bar."""
    means = {arm: fmean(values[arm]) for arm in view.order if values.get(arm)}
    if len(means) < 2:
        return None
    colours = assign_arm_colours(view)
    names = [view.names[arm] for arm in means]
    marker = {"color": [colours[arm] for arm in means]}
    trace = {"type": "bar", "x": names, "y": [*means.values()], "marker": marker}
    rows = []
    for arm, arm_values in values.items():
        rows += [(arm, number, value) for number, value in enumerate(arm_values)]
    return Figure(
        title=title,
        data=[trace],
        layout={"yaxis": make_axis(unit), "height": 320},
        alt="; ".join(f"{arm} {mean:.3g}" for arm, mean in means.items()),
        heads=("arm", "run", unit),
        rows=rows,
        note=note,
    )


def draw_front(view: View, cost: Comparison | Timing, fronts: list[Front]) -> Figure | None:
    """Draw loss against a cost, with the interval of the difference, and a line through the Pareto front."""
    losses = {row.arm: row.mean for row in view.comparison.arms if row.mean is not None}
    if isinstance(cost, Timing):
        costs = cost.medians
    else:
        costs = {row.arm: row.mean for row in cost.arms if row.mean is not None}
    arms = [arm for arm in view.order if arm in losses and arm in costs]
    if len({costs[arm] for arm in arms}) < 2:
        return None
    half_widths = dict.fromkeys(arms, 0.0)  # the baseline has no difference, so no interval
    # of the difference and not of the mean: what seeds share cancels in it, and verdicts are of it
    half_widths |= {arm: (contrast.high - contrast.low) / 2 for arm, contrast in view.contrasts.items()}
    front_arms = next((front.front for front in fronts if front.cost.key == cost.metric.key), [])
    rows, sentences = [], []
    for arm in arms:
        rows.append((arm, costs[arm], losses[arm], half_widths[arm], arm in front_arms))
        sentences.append(f"{arm}: {costs[arm]:g} and {losses[arm]:.4f}")
    traces = [_make_cost_points(view, rows)]
    # a line from the cheapest to the best, through those that nothing dominates
    front = sorted((costs[arm], losses[arm]) for arm in front_arms if arm in costs and arm in losses)
    if len(front) > 1:
        x, y = zip(*front, strict=True)
        # first, so that the points lie above it
        traces.insert(0, make_line(x, y, "front", GREY, hoverinfo="skip"))
    unit = "" if cost.metric.unit == cost.metric.name else f", {cost.metric.unit}"
    return Figure(
        title=f"Loss against {cost.metric.name}",
        data=traces,
        layout={
            "xaxis": make_axis(f"{cost.metric.name}{unit}"),
            "yaxis": make_axis(view.comparison.metric.unit),
            "height": 340,
            "showlegend": False,
        },
        alt="; ".join(sentences),
        heads=("arm", cost.metric.key, "loss", "half the interval of its difference", "on the front"),
        rows=rows,
    )


def _make_cost_points(view: View, rows: list[tuple[str, float, float, float, bool]]) -> dict[str, Any]:
    """Return a trace of named points from rows of an arm, its cost, loss and half the interval of its difference."""
    colours = assign_arm_colours(view)
    arms, costs, losses, half_widths, _ = ([*column] for column in zip(*rows, strict=True))
    middle = (min(costs) + max(costs)) / 2
    names = [view.names[arm] for arm in arms]
    # to the middle, since a name at the edge would be cut
    positions = ["top right" if cost < middle else "top left" for cost in costs]
    return {
        "type": "scatter",
        "mode": "markers+text",
        "x": costs,
        "y": losses,
        "error_y": {"type": "data", "color": GREY, "array": half_widths, "thickness": 1},
        "text": names,
        "textposition": positions,
        "cliponaxis": False,
        "marker": {"size": 11, "color": [colours[arm] for arm in arms]},
    }


# -- figures of sizes


def draw_scaling(scalings: list[Scaling]) -> list[Figure]:
    """Draw loss over size for each kind of size: points, the fitted line, and the band of its slope."""
    by_axis: dict[str, list[Scaling]] = {}
    for scaling in scalings:
        by_axis.setdefault(scaling.against, []).append(scaling)
    return [_draw_scaling_over(against, group) for against, group in by_axis.items()]


def _draw_scaling_over(against: str, scalings: list[Scaling]) -> Figure:
    """Draw loss over one kind of size, a line with its band for each arm."""
    colours, traces, rows, sentences = assign_colours([scaling.arm for scaling in scalings]), [], [], []
    for scaling in scalings:
        arm, colour = scaling.arm, colours[scaling.arm]
        sizes, losses = zip(*scaling.points, strict=True)
        logs = [math.log(size) for size in sizes]
        # least squares pass through the means, so the band of the slope has no width there
        x = [min(logs), fmean(logs), max(logs)]
        low, high, fit = (_draw_slope(slope, x, fmean(losses)) for slope in (scaling.low, scaling.high, scaling.slope))
        x = [math.exp(log) for log in x]
        traces += make_band(x, low, high, colour)
        traces.append(make_line(x, fit, arm, colour))
        traces.append(make_line(sizes, losses, arm, colour, mode="markers", showlegend=False))
        rows += [(arm, *point, scaling.slope, scaling.low, scaling.high) for point in scaling.points]
        sentences.append(f"{arm}: slope {scaling.slope:.4f} per ln, {scaling.low:.4f} to {scaling.high:.4f}")
    axis = {"params": "parameters", "flops": "training FLOPs"}[against]
    return Figure(
        title=f"Loss over {axis}, with the 95 % band of the slope",
        data=traces,
        layout={"xaxis": make_axis(axis, type="log"), "yaxis": make_axis("nats/token"), "height": 380},
        alt="; ".join(sentences),
        heads=("arm", against, "loss", "slope", "low", "high"),
        rows=rows,
    )


def _draw_slope(slope: float, logs: list[float], mean_loss: float) -> list[float]:
    """Return losses on a line through the middle one of three logarithms of size."""
    return [mean_loss + slope * (log - logs[1]) for log in logs]
