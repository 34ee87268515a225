"""The figures of a study as plain plotly JSON, each with its numbers as CSV and its words for those who cannot see it.

Colours are of arms, the same in all figures; the baseline is grey. Text and lines take the page's colour when drawn.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gptlab.ablation.outcome import Comparison, Timing
from gptlab.ablation.view import View
from gptlab.report.curves import Curve

GREY = "#8a8f98"
COLOURS = ("#2f6fde", "#d9682b", "#2a9d76", "#a548c7", "#c99700", "#d23f6b", "#3aa6b9", "#7a6a53", "#5b5fc7", "#6f9e2f")


@dataclass(frozen=True)
class Figure:
    """A title, plotly's data and layout, a sentence, numbers as rows under heads, and a note."""

    title: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    alt: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Any]] = ()
    note: str = ""

    @property
    def csv(self) -> str:
        """The numbers."""
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([self.heads, *self.rows])
        return out.getvalue()


def colours(view: View) -> dict[str, str]:
    """By arm."""
    others = [arm for arm in view.order if arm != view.comparison.baseline]
    return {view.comparison.baseline: GREY, **{arm: COLOURS[at % len(COLOURS)] for at, arm in enumerate(others)}}


def forest(view: View) -> Figure | None:
    """Differences from the baseline with their intervals."""
    found = [view.contrasts[arm] for arm in reversed(view.order) if arm in view.contrasts]
    if not found:
        return None
    paint, one = colours(view), view.comparison
    names = [view.names[contrast.arm] for contrast in found]
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": [contrast.difference for contrast in found],
        "y": names,
        "marker": {"size": 10, "color": [paint[contrast.arm] for contrast in found]},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [contrast.high - contrast.difference for contrast in found],
            "arrayminus": [contrast.difference - contrast.low for contrast in found],
        },
        "text": [contrast.verdict for contrast in found],
        "hovertemplate": "%{y}: %{x:.4f}, %{text}<extra></extra>",
    }
    band = {"type": "rect", "xref": "x", "yref": "paper", "x0": -one.delta, "x1": one.delta, "y0": 0, "y1": 1}
    layout = {
        "xaxis": {"title": {"text": f"{one.metric.name} less that of {view.names[one.baseline]}, {one.metric.unit}"}},
        "height": 130 + 38 * len(found),
        "shapes": [{**band, "fillcolor": GREY, "opacity": 0.18, "line": {"width": 0}}],
    }
    heads = ("arm", "difference", "low", "high", "p (Holm)", "verdict")
    rows = [(c.arm, c.difference, c.low, c.high, c.p_holm, c.verdict) for c in found]
    alt = "; ".join(
        f"{c.arm} {c.difference:+.4f}, 95 % interval {c.low:+.4f} to {c.high:+.4f}, {c.verdict}" for c in found
    )
    return Figure("Differences from the baseline, with 95 % intervals", [trace], layout, alt, heads, rows)


def curves(title: str, unit: str, found: list[Curve], view: View) -> Figure | None:
    """Means over tokens, each with a band."""
    if not found or max(len(curve.points) for curve in found) < 2:
        return None
    paint, data = colours(view), []
    found = sorted(found, key=lambda curve: view.order.index(curve.arm))
    for curve in found:
        x, mean, low, high = ([*column] for column in zip(*curve.points, strict=True))
        colour = paint.get(curve.arm, GREY)
        name = view.names.get(curve.arm, curve.arm)
        if curve.seeds > 1:
            band = {"type": "scatter", "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
            data += [
                {**band, "x": x, "y": high},
                {**band, "x": x, "y": low, "fill": "tonexty", "fillcolor": f"{colour}26"},
            ]
        data.append(
            {"type": "scatter", "mode": "lines", "x": x, "y": mean, "name": name, "line": {"color": colour, "width": 2}}
        )
    layout = {"xaxis": {"title": {"text": "tokens"}}, "yaxis": {"title": {"text": unit}}, "height": 380}
    thin = max(curve.thinned for curve in found)
    note = f"Thinned: {len(found[0].points)} of {thin} points are shown." if thin else ""
    rows = [(curve.arm, *point) for curve in found for point in curve.points]
    alt = "; ".join(f"{curve.arm} ends at {curve.points[-1][1]:.4f}" for curve in found)
    return Figure(title, data, layout, alt, ("arm", "tokens", "mean", "low", "high"), rows, note)


def seeds(view: View) -> Figure | None:
    """Every seed a line across the arms: lines that run alike show what pairing is worth."""
    runs = [run for run in view.stratum.runs if run.role == "arm" and run.status == "finished"]
    key = view.comparison.metric.key
    best = {tuning.arm: tuning.best for tuning in view.stratum.tunings}
    runs = [run for run in runs if key in run.values and run.lr == best.get(run.arm)]
    if len({run.arm for run in runs}) < 2:
        return None
    data = []
    for seed in sorted({run.seed for run in runs}):
        mine = {run.arm: run.values[key] for run in runs if run.seed == seed}
        arms = [arm for arm in view.order if arm in mine]
        look = {"type": "scatter", "mode": "lines+markers", "name": f"seed {seed}", "line": {"width": 1.5}}
        data.append({**look, "x": [view.names[arm] for arm in arms], "y": [mine[arm] for arm in arms]})
    layout = {"yaxis": {"title": {"text": view.comparison.metric.unit}}, "height": 360}
    rows = [(run.arm, run.seed, run.values[key]) for run in runs]
    return Figure("Every seed across the arms", data, layout, f"{len(data)} seeds", ("arm", "seed", key), rows)


def places(found: dict[str, list[float]], view: View) -> Figure | None:
    """Loss at each place of the window."""
    if not found:
        return None
    paint = colours(view)
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": view.names.get(arm, arm),
            "y": values,
            "line": {"color": paint.get(arm, GREY)},
        }
        for arm, values in sorted(found.items(), key=lambda pair: view.order.index(pair[0]))
    ]
    layout = {"xaxis": {"title": {"text": "tokens before"}}, "yaxis": {"title": {"text": "nats/token"}}, "height": 340}
    rows = [(arm, at, value) for arm, values in found.items() for at, value in enumerate(values)]
    alt = "; ".join(f"{arm} from {values[0]:.2f} to {values[-1]:.2f}" for arm, values in found.items())
    return Figure("Loss by position in the window", data, layout, alt, ("arm", "place", "nats"), rows)


def front(view: View, cost: Comparison | Timing) -> Figure | None:
    """Loss against a cost."""
    losses = {arm.arm: arm.mean for arm in view.comparison.arms if arm.mean is not None}
    costs = (
        cost.medians if isinstance(cost, Timing) else {arm.arm: arm.mean for arm in cost.arms if arm.mean is not None}
    )
    arms = [arm for arm in view.order if arm in losses and arm in costs]
    if len({costs[arm] for arm in arms}) < 2:
        return None
    paint = colours(view)
    trace = {
        "type": "scatter",
        "mode": "markers+text",
        "x": [costs[arm] for arm in arms],
        "y": [losses[arm] for arm in arms],
        "text": [view.names[arm] for arm in arms],
        "textposition": "top center",
        "marker": {"size": 11, "color": [paint[arm] for arm in arms]},
    }
    axis = {"title": {"text": f"{cost.metric.name}, {cost.metric.unit}"}}
    layout = {
        "xaxis": axis,
        "yaxis": {"title": {"text": view.comparison.metric.unit}},
        "height": 340,
        "showlegend": False,
    }
    rows = [(arm, costs[arm], losses[arm]) for arm in arms]
    alt = "; ".join(f"{arm}: {costs[arm]:g} and {losses[arm]:.4f}" for arm in arms)
    return Figure(f"Loss against {cost.metric.name}", [trace], layout, alt, ("arm", cost.metric.key, "loss"), rows)
