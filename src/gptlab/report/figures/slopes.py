"""Slopes of a coordinate check with their intervals, and the band in which an activation stands still."""

from gptlab.report.figures.parts import assign_colours, make_axis, make_error_bars, make_margin
from gptlab.report.model import Figure
from gptlab.stats.measurements import ActivationSlope, Measurements, list_slopes


def draw_slopes(measurements: Measurements) -> list[Figure]:
    """Draw the slope of the change of each activation, a figure for width and for depth; none for other studies."""
    by_dimension: dict[str, list[ActivationSlope]] = {}
    for slope in list_slopes(measurements):
        if slope.quantity == "change":
            by_dimension.setdefault(slope.dimension, []).append(slope)
    tolerance = (measurements.plan.knobs or {}).get("tolerance", 0.0)
    return [_draw_dimension(dimension, slopes, tolerance) for dimension, slopes in by_dimension.items()]


def _draw_dimension(dimension: str, slopes: list[ActivationSlope], tolerance: float) -> Figure:
    """Draw the slopes over one dimension, arms side by side for each activation."""
    colours = assign_colours([*dict.fromkeys(slope.arm for slope in slopes)])
    traces = []
    for arm, colour in colours.items():
        slopes_of_arm = [slope for slope in reversed(slopes) if slope.arm == arm]  # plotly's y axis goes upwards
        values, lows, highs = zip(*(slope.slope for slope in slopes_of_arm), strict=True)
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [*values],
                "y": [slope.kind for slope in slopes_of_arm],
                "name": arm,
                "marker": {"size": 9, "color": colour},
                "error_x": make_error_bars(values, lows, highs) | {"color": colour, "thickness": 1},
            }
        )
    sentences, rows = [], []
    for slope in slopes:
        sentences.append(f"{slope.arm} {slope.kind} {slope.slope.value:.2f}")
        rows.append((slope.arm, slope.kind, *slope.slope))
    return Figure(
        title=f"slope of the change over {dimension}",
        data=traces,
        layout={
            "xaxis": make_axis(f"d ln change / d ln {dimension}"),
            "height": 330,
            "shapes": [make_margin(-tolerance, tolerance)],
        },
        alt="; ".join(sentences),
        heads=("", "activation", "slope", "low", "high"),
        rows=rows,
        note=f"The shaded band, up to {tolerance:g}, is what counts as standing still. Bars: 95 %.",
    )
