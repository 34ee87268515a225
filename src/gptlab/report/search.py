"""A search in a report: the best loss so far over trials, and what was not trained."""

from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any

from gptlab.report.figures.parts import assign_colours, make_axis, make_band, make_line
from gptlab.report.model import Figure, Item, Words
from gptlab.runs.record import read_json

MAX_REASONS = 12
"""Reasons why trials were not trained that are listed."""
Repeats = list[list[dict[str, Any]]]
"""The trials of each repeat of one search."""


def build_search_items(folder: Path) -> list[Item]:
    """Return the items of a study's folder; none where nothing was searched."""
    path = folder / "search.json"
    if not path.exists():
        return []
    searches: dict[str, Repeats] = {}
    entries: Any = read_json(path, list)
    for entry in entries:
        searches.setdefault(entry["name"], []).append(entry["trials"])
    lines = []
    reasons: dict[str, None] = {}
    for name, repeats in searches.items():
        trials = [*chain(*repeats)]
        reasons |= dict.fromkeys(trial["reason"] for trial in trials if trial["reason"])
        losses = [(trial["loss"], trial["arm"]) for trial in trials if trial["loss"] is not None]
        if losses:
            # over all repeats: the arm that the search as a whole came to
            loss, arm = min(losses)
            times = f", {len(repeats)} times" if len(repeats) > 1 else ""
            count = max(map(len, repeats))
            lines.append(f"{name}, {count} trials{times}: {arm} with {loss:.4f} on the half that chose.")
    not_trained = [f"Not trained: {reason}" for reason in [*reasons][:MAX_REASONS]]
    return [Words(lines), draw_search(searches), Words(not_trained)]


def draw_search(searches: dict[str, Repeats]) -> Figure:
    """Draw the best loss so far: the mean over repeats, with a band from the least to the largest of them."""
    colours, traces, rows = assign_colours([*searches]), [], []
    for name, repeats in searches.items():
        curves = []
        for trials in repeats:
            # best so far: what one would have taken, had one stopped there
            curves.append(compute_running_best([trial["loss"] for trial in trials]))
        points = []
        # strict=False: repeats that were stopped early end the mean over all of them
        for trial, losses in enumerate(zip(*curves, strict=False), 1):
            if all(loss is not None for loss in losses):
                points.append((trial, fmean(losses), min(losses), max(losses)))
        if not points:
            continue
        x, mean, low, high = ([*column] for column in zip(*points, strict=True))
        if len(repeats) > 1:
            traces += make_band(x, low, high, colours[name], shape="hv")
        trace = make_line(x, mean, name, colours[name])
        # steps: between two trials the best so far stays what it was
        traces.append({**trace, "line": {**trace["line"], "shape": "hv"}})
        rows += [(name, *point) for point in points]
    last_means = {name: mean for name, _, mean, *_ in rows}
    return Figure(
        title="Best so far",
        data=traces,
        layout={"xaxis": make_axis("trials"), "yaxis": make_axis("best loss so far, nats/token"), "height": 340},
        alt="; ".join(f"{name} ends at {mean:.4f}" for name, mean in last_means.items()),
        heads=("search", "trials", "mean", "low", "high"),
        rows=rows,
        note="On the half of the validation split that chose. Bands: from the best to the worst repeat.",
    )


def compute_running_best(losses: list[float | None]) -> list[float | None]:
    """Return the least loss up to each trial; None before the first one that was trained."""
    best, bests = None, []
    for loss in losses:
        if loss is not None:
            best = loss if best is None else min(best, loss)
        bests.append(best)
    return bests
