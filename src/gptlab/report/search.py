"""A search in a report: the best loss so far over trials, and what was not trained."""

from pathlib import Path
from statistics import fmean
from typing import Any

from gptlab.report.figures.study import line, painted, titled
from gptlab.report.model import Figure, Item, Words
from gptlab.runs.record import read_json

SHOWN = 12
"""Trials that were not trained, of which the reason is told."""


def items(folder: Path) -> list[Item]:
    """Of a study's folder; none where nothing was searched."""
    path = folder / "search.json"
    if not path.exists():
        return []
    found: dict[str, list[list[dict[str, Any]]]] = {}
    told: list[str] = []
    searches: Any = read_json(path, list)
    for one in searches:
        found.setdefault(one["name"], []).append(one["trials"])
    for name, repeats in found.items():
        losses = [(trial["loss"], trial["arm"]) for one in repeats for trial in one if trial["loss"] is not None]
        if not losses:
            continue
        best = min(losses)
        each = f", {len(repeats)} times" if len(repeats) > 1 else ""
        told.append(
            f"{name}, {max(map(len, repeats))} trials{each}: {best[1]} with {best[0]:.4f} on the half that chose."
        )
    every = [trial for repeats in found.values() for one in repeats for trial in one]
    left_out = [*dict.fromkeys(trial["reason"] for trial in every if trial["reason"])]
    return [Words(told), figure(found), Words([f"Not trained: {one}" for one in left_out[:SHOWN]])]


def figure(found: dict[str, list[list[dict[str, Any]]]]) -> Figure:
    """The best loss so far: the mean over repeats, with a band from the least to the largest of them."""
    colours, traces, rows = painted([*found]), [], []
    for name, repeats in found.items():
        lines = [so_far([trial["loss"] for trial in trials]) for trials in repeats]
        points = []
        for at, column in enumerate(zip(*lines, strict=False), 1):
            if all(value is not None for value in column):
                points.append((at, fmean(column), min(column), max(column)))
        if not points:
            continue
        x, mean, low, high = ([*column] for column in zip(*points, strict=True))
        if len(repeats) > 1:
            edge = {"line": {"width": 0, "shape": "hv"}, "hoverinfo": "skip", "showlegend": False}
            fill = {"fill": "tonexty", "fillcolor": f"{colours[name]}26"}
            traces += [line(x, high, "") | edge, line(x, low, "") | edge | fill]
        drawn = line(x, mean, name, colours[name])
        traces.append({**drawn, "line": {**drawn["line"], "shape": "hv"}})
        rows += [(name, *point) for point in points]
    layout = {"xaxis": titled("trials"), "yaxis": titled("best loss so far, nats/token"), "height": 340}
    ends = {name: mean for name, _, mean, *_ in rows}
    alt = "; ".join(f"{name} ends at {mean:.4f}" for name, mean in ends.items())
    heads = ("search", "trials", "mean", "low", "high")
    note = "On the half of the validation split that chose. Bands: from the best to the worst repeat."
    return Figure("Best so far", traces, layout, alt, heads, rows, note)


def so_far(losses: list[float | None]) -> list[float | None]:
    """The least of all before, none before the first."""
    best, found = None, []
    for loss in losses:
        best = loss if best is None else best if loss is None else min(best, loss)
        found.append(best)
    return found
