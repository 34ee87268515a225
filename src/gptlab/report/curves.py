"""Times and other numbers over sizes: what is named `size=value`, an arm or a metric, as lines over that size."""

from collections.abc import Mapping

from gptlab.report.figures import line, painted, titled
from gptlab.report.model import Figure
from gptlab.sweeping import POINT


def curves(numbers: Mapping[str, Mapping[str, float]]) -> list[Figure]:
    """Numbers by metric and arm to a figure for each size that has two values or more, logarithmic both ways, so that
    a power is a straight line."""
    found: dict[tuple[str, str], dict[str, dict[int, float]]] = {}
    for metric, one in numbers.items():
        for arm, ms in one.items():
            if point := POINT.fullmatch(metric):  # all arms at one size
                what, size, value = point.groups()
                name = arm
            elif point := POINT.fullmatch(arm):
                name, size, value = point.groups()
                what, name = metric, name or metric
            else:
                continue
            found.setdefault((what or "ms", size), {}).setdefault(name, {})[int(value)] = ms
    return [
        _drawn(what, size, lines)
        for (what, size), lines in found.items()
        if len({value for points in lines.values() for value in points}) > 1
    ]


def over_sizes(one: Mapping[str, float]) -> bool:
    """True of the numbers of arms that are all points of sizes, and can be drawn on a logarithmic scale."""
    return all(POINT.fullmatch(arm) for arm in one) and min(one.values()) > 0


def _drawn(what: str, size: str, lines: dict[str, dict[int, float]]) -> Figure:
    colours, traces, rows = painted([*lines]), [], []
    for name, points in lines.items():
        points = dict(sorted(points.items()))
        traces.append(line([*points], [*points.values()], name, colours[name], mode="lines+markers"))
        rows += [(name, value, ms) for value, ms in points.items()]
    alt = "; ".join(f"{name} at {value}: {ms:.4g}" for name, value, ms in rows)
    ticks = {"type": "log", "tickmode": "array", "tickvals": sorted({value for _, value, _ in rows})}
    layout = {"xaxis": titled(size, **ticks), "yaxis": titled(what, type="log"), "height": 320}
    return Figure(f"{what} over {size}", traces, layout, alt, ("", size, what), rows)
