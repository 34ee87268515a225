"""Parts of plotly figures: colours, lines, bands, axes, margins, error bars.

Colours are of arms, the same in all figures; the baseline is grey.
"""

from collections.abc import Sequence
from typing import Any

from gptlab.report.text.view import View

GREY = "#8a8f98"
COLOURS = ("#2f6fde", "#d9682b", "#2a9d76", "#a548c7", "#c99700", "#d23f6b", "#3aa6b9", "#7a6a53", "#5b5fc7", "#6f9e2f")


def assign_arm_colours(view: View) -> dict[str, str]:
    """Return a colour for each arm, grey for the baseline."""
    # by their order in the table, so that an arm has one colour in all figures of a page
    others = [arm for arm in view.order if arm != view.comparison.baseline]
    return {view.comparison.baseline: GREY, **assign_colours(others)}


def assign_colours(names: Sequence[str]) -> dict[str, str]:
    """Return a colour for each name, in their order; they begin again after `COLOURS`."""
    return {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}


def make_line(x: Sequence[Any], y: Sequence[Any], name: str, colour: str | None = None, **more: Any) -> dict[str, Any]:
    """Return a trace of plotly: a line."""
    style = {"width": 2, **({"color": colour} if colour else {})}
    return {"type": "scatter", "mode": "lines", "x": [*x], "y": [*y], "name": name, "line": style, **more}


def make_band(
    x: Sequence[Any], low: Sequence[Any], high: Sequence[Any], colour: str, **line: Any
) -> list[dict[str, Any]]:
    """Return two traces of plotly: the edges of a band, shaded between them."""
    edge = {"line": {"width": 0, **line}, "hoverinfo": "skip", "showlegend": False}
    shade = {"fill": "tonexty", "fillcolor": f"{colour}26"}  # 26: 15 % opaque
    return [make_line(x, high, "") | edge, make_line(x, low, "") | edge | shade]


def make_axis(text: str, **more: Any) -> dict[str, Any]:
    """Return an axis with its title."""
    return {"title": {"text": text}, **more}


def make_difference_axis(view: View) -> dict[str, Any]:
    """Return an axis of differences from the baseline."""
    metric, baseline = view.comparison.metric, view.short_name(view.comparison.baseline)
    return make_axis(f"Difference in {metric.name} from {baseline} ({metric.unit})")


def make_margin(low: float, high: float) -> dict[str, Any]:
    """Return a shape of plotly: a grey band from `low` to `high` on the x axis."""
    place = {"type": "rect", "xref": "x", "yref": "paper", "x0": low, "x1": high, "y0": 0, "y1": 1}
    return {**place, "fillcolor": GREY, "opacity": 0.18, "line": {"width": 0}}


def make_error_bars(values: Sequence[float], lows: Sequence[float], highs: Sequence[float]) -> dict[str, Any]:
    """Return error bars of plotly, from `lows` to `highs` around `values`."""
    above = [high - value for value, high in zip(values, highs, strict=True)]
    below = [value - low for value, low in zip(values, lows, strict=True)]
    return {"type": "data", "symmetric": False, "color": GREY, "array": above, "arrayminus": below}
