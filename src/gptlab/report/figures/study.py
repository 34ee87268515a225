"""The figures of a study, each with its numbers and its words. Plain plotly JSON.

Colours are of arms, the same in all figures; the baseline is grey. Text and lines take the page's colour when drawn.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from gptlab.report.history import MOST, Axis, Curve
from gptlab.report.model import Figure
from gptlab.report.text.forest_plot import legended, plotted
from gptlab.report.text.view import View
from gptlab.stats.results import Comparison, Front, Scaling, Timing

GREY = "#8a8f98"
COLOURS = ("#2f6fde", "#d9682b", "#2a9d76", "#a548c7", "#c99700", "#d23f6b", "#3aa6b9", "#7a6a53", "#5b5fc7", "#6f9e2f")
CHARACTERS = 60
"""Of a plot in characters."""
AXES = {"tokens": "tokens", "seconds": "seconds of training"}


def colours(view: View) -> dict[str, str]:
    """By arm."""
    others = [arm for arm in view.order if arm != view.comparison.baseline]
    return {view.comparison.baseline: GREY, **painted(others)}


def painted(names: Sequence[str]) -> dict[str, str]:
    """A colour each, in their order."""
    return {name: COLOURS[at % len(COLOURS)] for at, name in enumerate(names)}


def line(x: Sequence[Any], y: Sequence[Any], name: str, colour: str | None = None, **more: Any) -> dict[str, Any]:
    """A line of plotly."""
    drawn = {"width": 2, **({"color": colour} if colour else {})}
    return {"type": "scatter", "mode": "lines", "x": [*x], "y": [*y], "name": name, "line": drawn, **more}


def titled(text: str, **more: Any) -> dict[str, Any]:
    """An axis with its title."""
    return {"title": {"text": text}, **more}


def forest(view: View) -> Figure | None:
    """Differences from the baseline with their intervals."""
    found = [view.contrasts[arm] for arm in reversed(view.order) if arm in view.contrasts]
    if not found:
        return None
    paint, one = colours(view), view.comparison
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": [contrast.difference for contrast in found],
        "y": [view.names[contrast.arm] for contrast in found],
        "marker": {"size": 10, "color": [paint[contrast.arm] for contrast in found]},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "color": GREY,
            "array": [contrast.high - contrast.difference for contrast in found],
            "arrayminus": [contrast.difference - contrast.low for contrast in found],
        },
        "text": [contrast.verdict for contrast in found],
        "hovertemplate": "%{y}: %{x:.4f}, %{text}<extra></extra>",
    }
    band = {"type": "rect", "xref": "x", "yref": "paper", "x0": -one.delta, "x1": one.delta, "y0": 0, "y1": 1}
    layout = {
        "xaxis": titled(f"{one.metric.name} less that of {view.names[one.baseline]}, {one.metric.unit}"),
        "height": 130 + 38 * len(found),
        "shapes": [{**band, "fillcolor": GREY, "opacity": 0.18, "line": {"width": 0}}],
    }
    heads = ("arm", "difference", "low", "high", "p (Holm)", "verdict")
    rows = [(c.arm, c.difference, c.low, c.high, c.p_holm, c.verdict) for c in found]
    alt = "; ".join(
        f"{c.arm} {c.difference:+.4f}, 95 % interval {c.low:+.4f} to {c.high:+.4f}, {c.verdict}" for c in found
    )
    text = characters(view)
    title = "Differences from the baseline, with 95 % intervals"
    return Figure(title, [trace], layout, alt, heads, rows, "The shaded band is the margin of equivalence.", text)


def characters(view: View) -> str:
    """The forest for those who read in a terminal."""
    plot, wide = plotted(view, CHARACTERS), max(map(len, view.names.values()))
    rows = [("", plot.head), *((view.names[arm], cell) for arm, cell in zip(view.order, plot.cells, strict=True))]
    return "\n".join(f"{name:{wide}}  {cell}" for name, cell in [*rows, ("", legended(view, plot))])


def curves(title: str, unit: str, found: list[Curve], view: View, over: Axis = "tokens") -> Figure | None:
    """Means, each with a band."""
    if not found or max(len(curve.points) for curve in found) < 2:
        return None
    paint, data = colours(view), []
    found = sorted(found, key=lambda curve: view.order.index(curve.arm))
    for curve in found:
        x, mean, low, high = ([*column] for column in zip(*curve.points, strict=True))
        colour = paint.get(curve.arm, GREY)
        if curve.seeds > 1:
            edge = {"line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
            data += [
                line(x, high, "") | edge,
                line(x, low, "") | edge | {"fill": "tonexty", "fillcolor": f"{colour}26"},
            ]
        data.append(line(x, mean, view.names.get(curve.arm, curve.arm), colour))
    layout = {"xaxis": titled(AXES[over]), "yaxis": titled(unit), "height": 380}
    thin = max(curve.thinned for curve in found)
    note = f"Thinned: {len(found[0].points)} of {thin} points are shown." if thin else ""
    note = f"Between logged rows, drawn at {MOST} places." if over == "seconds" else note
    rows = [(curve.arm, *point) for curve in found for point in curve.points]
    alt = "; ".join(f"{curve.arm} ends at {curve.points[-1][1]:.4f}" for curve in found)
    return Figure(title, data, layout, alt, ("arm", over, "mean", "low", "high"), rows, note)


def lines(title: str, x: str, found: Mapping[str, Mapping[Any, float]], view: View, **xaxis: Any) -> Figure | None:
    """A line an arm, over anything: places of the window, contexts of history, learning rates."""
    if max((len(one) for one in found.values()), default=0) < 2:
        return None
    paint, mode = colours(view), "lines" if max(map(len, found.values())) > 9 else "lines+markers"
    ordered = sorted(found.items(), key=lambda pair: view.order.index(pair[0]))
    data = [
        line([*one], [*one.values()], view.names.get(arm, arm), paint.get(arm, GREY), mode=mode) for arm, one in ordered
    ]
    layout = {"xaxis": titled(x, **xaxis), "yaxis": titled(view.comparison.metric.unit), "height": 340}
    rows = [(arm, at, value) for arm, one in ordered for at, value in one.items()]
    alt = "; ".join(f"{arm} from {next(iter(one.values())):.3f} to {[*one.values()][-1]:.3f}" for arm, one in ordered)
    return Figure(title, data, layout, alt, ("arm", x, view.comparison.metric.unit), rows)


def seeds(view: View, key: str, values: dict[tuple[str, int], float]) -> Figure | None:
    """Every seed a line across the arms: lines that run alike show what pairing is worth. `values`: by arm and seed."""
    if len({arm for arm, _ in values}) < 2:
        return None
    data, every = [], sorted({seed for _, seed in values})
    for seed in every:
        arms = [arm for arm in view.order if (arm, seed) in values]
        names, mine = [view.names[arm] for arm in arms], [values[arm, seed] for arm in arms]
        data.append(line(names, mine, f"seed {seed}", mode="lines+markers"))
    layout = {"yaxis": titled(view.comparison.metric.unit), "height": 360}
    rows = [(*who, value) for who, value in values.items()]
    alt = "; ".join(
        f"seed {seed} from {min(one['y']):.4f} to {max(one['y']):.4f}" for seed, one in zip(every, data, strict=True)
    )
    return Figure("Every seed across the arms", data, layout, alt, ("arm", "seed", key), rows)


def bars(title: str, unit: str, found: Mapping[str, list[float]], view: View, note: str = "") -> Figure | None:
    """The mean of each arm; an arm without a value has no bar."""
    heights = {arm: fmean(found[arm]) for arm in view.order if found.get(arm)}
    if len(heights) < 2:
        return None
    paint, names = colours(view), [view.names[arm] for arm in heights]
    trace = {"type": "bar", "x": names, "y": [*heights.values()], "marker": {"color": [paint[arm] for arm in heights]}}
    rows = [(arm, number, value) for arm, values in found.items() for number, value in enumerate(values)]
    alt = "; ".join(f"{arm} {value:.3g}" for arm, value in heights.items())
    return Figure(title, [trace], {"yaxis": titled(unit), "height": 320}, alt, ("arm", "run", unit), rows, note)


def front(view: View, cost: Comparison | Timing, fronts: list[Front]) -> Figure | None:
    """Loss against a cost, with the interval of the difference, and a line through those that nothing dominates."""
    losses = {arm.arm: arm.mean for arm in view.comparison.arms if arm.mean is not None}
    timed = isinstance(cost, Timing)
    costs = cost.medians if timed else {arm.arm: arm.mean for arm in cost.arms if arm.mean is not None}
    arms = [arm for arm in view.order if arm in losses and arm in costs]
    if len({costs[arm] for arm in arms}) < 2:
        return None
    paint = colours(view)
    halves = {arm: (one.high - one.low) / 2 for arm, one in view.contrasts.items()}
    trace = {
        "type": "scatter",
        "mode": "markers+text",
        "x": [costs[arm] for arm in arms],
        "y": [losses[arm] for arm in arms],
        "error_y": {"type": "data", "color": GREY, "array": [halves.get(arm, 0.0) for arm in arms], "thickness": 1},
        "text": [view.names[arm] for arm in arms],
        "textposition": "top right",
        "marker": {"size": 11, "color": [paint[arm] for arm in arms]},
    }
    kept = next((one.front for one in fronts if one.cost.key == cost.metric.key), [])
    edge = sorted((costs[arm], losses[arm]) for arm in kept if arm in costs and arm in losses)
    places, heights = [at for at, _ in edge], [height for _, height in edge]
    data = [line(places, heights, "front", GREY, hoverinfo="skip")] if len(edge) > 1 else []
    layout = {
        "xaxis": titled(f"{cost.metric.name}, {cost.metric.unit}"),
        "yaxis": titled(view.comparison.metric.unit),
        "height": 340,
        "showlegend": False,
    }
    rows = [(arm, costs[arm], losses[arm], halves.get(arm, 0.0), arm in kept) for arm in arms]
    alt = "; ".join(f"{arm}: {costs[arm]:g} and {losses[arm]:.4f}" for arm in arms)
    heads = ("arm", cost.metric.key, "loss", "half the interval of its difference", "on the front")
    return Figure(f"Loss against {cost.metric.name}", [*data, trace], layout, alt, heads, rows)


def scaling(found: list[Scaling]) -> list[Figure]:
    """Loss over size, an arm a colour: points, the fitted line, and the band of its slope."""
    made = []
    for against in dict.fromkeys(one.against for one in found):
        mine = [one for one in found if one.against == against]
        paint, data, rows = painted([one.arm for one in mine]), [], []
        for one in mine:
            x, y = [point[0] for point in one.points], [point[1] for point in one.points]
            logs = [math.log(value) for value in x]
            ends = [min(logs), fmean(logs), max(logs)]
            fits = [[fmean(y) + slope * (at - ends[1]) for at in ends] for slope in (one.low, one.high, one.slope)]
            places, colour = [math.exp(at) for at in ends], paint[one.arm]
            edge = {"line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
            data += [
                line(places, fits[0], "") | edge,
                line(places, fits[1], "") | edge | {"fill": "tonexty", "fillcolor": f"{colour}26"},
                line(places, fits[2], one.arm, colour),
                line(x, y, one.arm, colour, mode="markers", showlegend=False),
            ]
            rows += [(one.arm, *point, one.slope, one.low, one.high) for point in one.points]
        what = {"params": "parameters", "flops": "training FLOPs"}[against]
        layout = {"xaxis": titled(what, type="log"), "yaxis": titled("nats/token"), "height": 380}
        alt = "; ".join(f"{one.arm}: slope {one.slope:.4f} per ln, {one.low:.4f} to {one.high:.4f}" for one in mine)
        heads = ("arm", against, "loss", "slope", "low", "high")
        made.append(Figure(f"Loss over {what}, with the 95 % band of the slope", data, layout, alt, heads, rows))
    return made
