"""Times and other numbers over sizes: what is named `size=value`, an arm or a metric, as lines over that size."""

from collections.abc import Mapping

from gptlab.report.figures.study import GREY, line, painted, titled
from gptlab.report.model import Figure
from gptlab.report.text.view import View
from gptlab.stats.elasticity import POINT, parse_size


def curves(numbers: Mapping[str, Mapping[str, float]]) -> list[Figure]:
    """Numbers by metric and arm to a figure for each size that has two values or more, logarithmic both ways, so that
    a power is a straight line."""
    found: dict[tuple[str, str], dict[str, dict[float, float]]] = {}
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
            found.setdefault((what or "ms", size), {}).setdefault(name, {})[parse_size(value)] = ms
    return [
        _drawn(what, size, lines)
        for (what, size), lines in found.items()
        if len({value for points in lines.values() for value in points}) > 1
    ]


def over_sizes(one: Mapping[str, float]) -> bool:
    """True of the numbers of arms that are all points of sizes, and can be drawn on a logarithmic scale."""
    return all(POINT.fullmatch(arm) for arm in one) and min(one.values()) > 0


def levels(view: View) -> list[Figure]:
    """The metric that decides over what arms are named by, as in `ptq width=4`: means, each with the interval of its
    difference from the baseline, which is a dashed line."""
    one, found = view.comparison, {}
    means = {arm.arm: arm.mean for arm in one.arms if arm.mean is not None}
    base = means.get(one.baseline)
    for arm, mean in means.items():
        if (point := POINT.fullmatch(view.name(arm))) and base is not None:
            low, high = (view.contrasts[arm].low, view.contrasts[arm].high) if arm in view.contrasts else (None, None)
            ends = (mean, mean) if low is None or high is None else (base + low, base + high)
            series = found.setdefault(point[2], {}).setdefault(point[1] or point[2], {})
            series[parse_size(point[3])] = (mean, *ends)
    return [
        _levelled(view, size, lines, base or 0.0) for size, lines in found.items() if max(map(len, lines.values())) > 2
    ]


def _levelled(view: View, size: str, lines: dict[str, dict[float, tuple[float, float, float]]], base: float) -> Figure:
    one, colours, traces, rows = view.comparison, painted([*lines]), [], []
    for name, points in lines.items():
        points = dict(sorted(points.items()))
        bars = {
            "type": "data",
            "symmetric": False,
            "thickness": 1,
            "array": [high - mean for mean, _, high in points.values()],
            "arrayminus": [mean - low for mean, low, _ in points.values()],
        }
        values = [mean for mean, _, _ in points.values()]
        traces.append(line([*points], values, name, colours[name], mode="lines+markers", error_y=bars))
        rows += [(name, at, *three) for at, three in points.items()]
    at = sorted({row[1] for row in rows})
    dashed = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": base, "y1": base}
    layout = {
        "xaxis": titled(size, tickmode="array", tickvals=at),
        "yaxis": titled(f"{one.metric.name}, {one.metric.unit}"),
        "height": 340,
        "shapes": [{**dashed, "line": {"color": GREY, "dash": "dash", "width": 1.5}}],
    }
    alt = "; ".join(f"{name} at {at}: {mean:.4g}" for name, at, mean, *_ in rows)
    title, note = f"{one.metric.name} over {size}", f"Dashed: {view.name(one.baseline)}. Bars: 95 % of the difference."
    return Figure(title, traces, layout, alt, ("", size, one.metric.name, "low", "high"), rows, note)


def _drawn(what: str, size: str, lines: dict[str, dict[float, float]]) -> Figure:
    colours, traces, rows = painted([*lines]), [], []
    for name, points in lines.items():
        points = dict(sorted(points.items()))
        traces.append(line([*points], [*points.values()], name, colours[name], mode="lines+markers"))
        rows += [(name, value, ms) for value, ms in points.items()]
    alt = "; ".join(f"{name} at {value}: {ms:.4g}" for name, value, ms in rows)
    ticks = {"type": "log", "tickmode": "array", "tickvals": sorted({value for _, value, _ in rows})}
    layout = {"xaxis": titled(size, **ticks), "yaxis": titled(what, type="log"), "height": 320}
    return Figure(f"{what} over {size}", traces, layout, alt, ("", size, what), rows)
