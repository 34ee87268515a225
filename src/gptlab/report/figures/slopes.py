"""Slopes of a coordinate check with their intervals, and the band in which an activation stands still."""

from gptlab.report.figures.parts import assign_colours, make_axis, make_error_bars, make_margin
from gptlab.report.model import Figure
from gptlab.stats.measurements import ActivationSlope, Measurements, list_slopes


def draw_slopes(measurements: Measurements) -> list[Figure]:
    """Draw the slope of the change of each activation, a figure for width and for depth; none for other studies."""
    slopes = [found for found in list_slopes(measurements) if found.quantity == "change"]
    tolerance = (measurements.plan.knobs or {}).get("tolerance", 0.0)
    dimensions = dict.fromkeys(found.dimension for found in slopes)
    return [
        _draw_dimension(dimension, [found for found in slopes if found.dimension == dimension], tolerance)
        for dimension in dimensions
    ]


def _draw_dimension(dimension: str, slopes: list[ActivationSlope], tolerance: float) -> Figure:
    colours = assign_colours([*dict.fromkeys(found.arm for found in slopes)])
    traces = []
    for arm, colour in colours.items():
        of_arm = [found for found in reversed(slopes) if found.arm == arm]  # plotly's y axis goes upwards
        values, lows, highs = zip(*(found.slope for found in of_arm), strict=True)
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [*values],
                "y": [found.kind for found in of_arm],
                "name": arm,
                "marker": {"size": 9, "color": colour},
                "error_x": make_error_bars(values, lows, highs) | {"color": colour, "thickness": 1},
            }
        )
    return Figure(
        title=f"slope of the change over {dimension}",
        data=traces,
        layout={
            "xaxis": make_axis(f"d ln change / d ln {dimension}"),
            "height": 330,
            "shapes": [make_margin(-tolerance, tolerance)],
        },
        alt="; ".join(f"{found.arm} {found.kind} {found.slope.value:.2f}" for found in slopes),
        heads=("", "activation", "slope", "low", "high"),
        rows=[(found.arm, found.kind, *found.slope) for found in slopes],
        note=f"The shaded band, up to {tolerance:g}, is what counts as standing still. Bars: 95 %.",
    )
