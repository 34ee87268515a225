"""Pictures of a study over several tasks: a heat map of its table, and accuracy over what makes an answer hard."""

import re
from statistics import fmean
from typing import Any

from gptlab.report.figures.parts import make_axis
from gptlab.report.figures.study import draw_lines
from gptlab.report.model import Figure
from gptlab.report.text.capabilities import list_arms
from gptlab.report.text.view import MARKS, View
from gptlab.stats.results import ACCURACY, Run

LEVEL = re.compile(r"val/accuracy_at_(?P<name>\w+)_(?P<level>\d+)")


def draw_capability_map(views: list[View]) -> Figure | None:
    """Draw arms by tasks; the colour is the accuracy, and the loss of a text has none."""
    if not views or not views[0].plan.tasks:
        return None
    names, tasks = list_arms(views), [view.stratum.size for view in views]
    shares: list[list[float | None]] = []
    labels: list[dict[str, Any]] = []
    rows: list[tuple[str, str, float, str]] = []
    for arm, name in names.items():
        line: list[float | None] = []
        for view in views:
            mean = next((row.mean for row in view.comparison.arms if row.arm == arm), None)
            # a loss has no place on a scale from 0 to 1: its cell has a number and no colour
            line.append(mean if view.comparison.metric == ACCURACY else None)
            if mean is not None:
                verdict = view.get_verdict(arm)
                text = f"{mean:.2f} {MARKS.get(verdict, '')}".rstrip()
                place = {"x": view.stratum.size, "y": name, "text": text, "showarrow": False}
                dark = line[-1] is not None and line[-1] > DARK
                labels.append({**place, "font": {"color": "#ffffff"}} if dark else place)
                rows.append((name, view.stratum.size, mean, verdict))
        shares.append(line)
    # the whole range, and not that of the data: colours of two studies mean the same
    trace = {"type": "heatmap", "x": tasks, "y": [*names.values()], "z": shares, "zmin": 0.0, "zmax": 1.0}
    style = {"colorscale": [[0, "#eef3fd"], [1, "#2f6fde"]], "colorbar": {"title": {"text": "accuracy"}}}
    return Figure(
        title="Capabilities: accuracy by task, and the loss on text",
        data=[{**trace, **style, "xgap": 2, "ygap": 2, "hoverongaps": False}],
        layout={
            "xaxis": make_axis("task", type="category"),
            "yaxis": make_axis("", autorange="reversed", type="category"),
            "annotations": labels,
            "height": 150 + 44 * len(names),
        },
        alt="; ".join(f"{name} on {task} {mean:.3f}, {verdict}" for name, task, mean, verdict in rows),
        heads=("arm", "task", "mean", "verdict"),
        rows=rows,
        note="✓ better, ✗ worse, = equivalent, ? not resolved, each against the baseline on the same task.",
    )


DARK = 0.6
"""Accuracy above which a cell is too dark for black letters."""


def draw_accuracy_by_difficulty(view: View, runs: list[Run]) -> list[Figure]:
    """Draw the accuracy of the arms over each kind of difficulty, means over seeds."""
    kinds: dict[str, dict[str, dict[int, list[float]]]] = {}
    for run in runs:
        for key, value in run.values.items():
            if run.status == "finished" and (match := LEVEL.fullmatch(key)):
                # kind of difficulty, then arm, then level: one value a seed
                levels = kinds.setdefault(match["name"], {}).setdefault(run.arm, {})
                levels.setdefault(int(match["level"]), []).append(value)
    figures = []
    for name, arms in kinds.items():
        lines: dict[str, dict[int, float]] = {}
        for arm, levels in arms.items():
            lines[arm] = {level: fmean(values) for level, values in sorted(levels.items())}
        figures.append(draw_lines(f"Accuracy by {name}", name, lines, view, unit=ACCURACY.unit, type="log"))
    return [figure for figure in figures if figure is not None]
