"""Models of several sizes side by side, in seven plots: what they write and how fast, what they lose, what they cost.

The plots are those of github.com/paco23ch/cic_cc_p02_transformer: word accuracy and time of each text as violins; loss
on both splits, a panel a size; milliseconds of a step; seconds of an evaluation; minutes in all; the position table.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any

from gptlab.report.figures.parts import COLOURS, GREY, assign_colours, make_axis, make_line
from gptlab.report.figures.positions import draw_position_figures
from gptlab.report.history import MAX_POINTS, History, read_history, read_last_texts
from gptlab.report.model import Figure
from gptlab.runs.record import read_json
from gptlab.stats.summary_keys import list_names

PARTS = list_names("time/start_s", "time/train_s", "time/evaluate_s", "time/samples_s")
SPLITS = {"training": ("train/loss", COLOURS[0]), "validation": ("val/loss", COLOURS[1])}


def draw_size_figures(run_folders: Mapping[str, Sequence[Path]]) -> list[Figure]:
    """Draw those plots that the runs have the numbers for. `run_folders`: finished runs by size."""
    texts: dict[str, list[dict]] = {}
    summaries: dict[str, list[dict]] = {}
    histories: dict[str, History] = {}
    tables: list[Figure] = []
    for size, folders in run_folders.items():
        summaries[size] = [read_json(folder / "summary.json") for folder in folders]
        texts[size] = []
        for folder in folders:
            texts[size] += read_last_texts(folder)
        for folder in folders[:1]:  # of curves and tables one run of each size
            histories[size] = read_history(folder, size)
            tables += draw_position_figures(folder, size)[:1]
    accuracies, bounds = _collect_text_values(texts, "word_accuracy"), _average_bounds(summaries)
    figures = [
        draw_violins("Word accuracy of each text", "share of words", accuracies, bounds),
        draw_violins("Time to write each text", "seconds", _collect_writing_seconds(texts, summaries)),
        draw_loss_panels(histories),
        draw_over_tokens("Time of a step", "ms", "time/step_ms", histories),
        draw_over_tokens("Time of each evaluation", "seconds", "time/evaluate_s", histories),
        draw_time_totals(summaries),
    ]
    return [figure for figure in figures if figure is not None] + tables


# -- texts


def draw_violins(
    title: str, unit: str, values: Mapping[str, list[float]], bounds: Mapping[str, float] | None = None
) -> Figure | None:
    """Draw a violin for each size, every value a point, and dotted lines at the bounds."""
    values = {size: numbers for size, numbers in values.items() if numbers}  # runs without samples have none
    if not values:
        return None
    colours, traces, rows, sentences = assign_colours([*values]), [], [], []
    for size, numbers in values.items():
        traces.append(
            {
                "type": "violin",
                "y": numbers,
                "name": size,
                "line": {"color": colours[size]},
                "spanmode": "hard",  # no density where no value can be
                "points": "all",
                "pointpos": 0,
                "jitter": 0.3,
                "marker": {"size": 3},
                "meanline": {"visible": True},
            }
        )
        rows += [(size, number) for number in numbers]
        sentences.append(f"{size}: mean {fmean(numbers):.3g} of {len(numbers)}")
    dotted = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "line": {"color": GREY, "dash": "dot", "width": 1.5}}
    shapes, names = [], []
    for name, bound in (bounds or {}).items():
        shapes.append({**dotted, "y0": bound, "y1": bound})
        names.append(f"{name} {bound:.2f}")
    return Figure(
        title=title,
        data=traces,
        layout={
            "yaxis": make_axis(unit),
            "height": 380,
            "showlegend": False,
            "shapes": shapes,
        },
        alt="; ".join(sentences),
        heads=("size", unit),
        rows=rows,
        note=f"Dotted: {', '.join(names)}." if names else "",
    )


def _collect_text_values(texts: Mapping[str, list[dict]], key: str) -> dict[str, list[float]]:
    values = {}
    for size, rows in texts.items():
        values[size] = [row[key] for row in rows if key in row]
    return values


def _collect_writing_seconds(
    texts: Mapping[str, list[dict]], summaries: Mapping[str, list[dict]]
) -> dict[str, list[float]]:
    """Return the seconds of each text by size; where a run wrote all texts in one batch, their mean for each run."""
    seconds = _collect_text_values(texts, "seconds")
    for size, values in seconds.items():
        # texts of all runs of the size are in one list
        texts_per_run = len(texts[size]) / max(1, len(summaries[size]))
        if not values and texts_per_run:
            batches = [summary.get("time/generate_cached_s") for summary in summaries[size]]
            seconds[size] = [batch / texts_per_run for batch in batches if batch is not None]
    return seconds


def _average_bounds(summaries: Mapping[str, list[dict[str, Any]]]) -> dict[str, float]:
    """Return the word accuracy of random and of real texts, where all runs know it."""
    every_summary = [*chain(*summaries.values())]
    bounds = {}
    # random and real texts, which no model of the study wrote
    for name in ("floor", "ceiling"):
        key = f"val/word_accuracy_{name}"
        if every_summary and all(key in summary for summary in every_summary):
            bounds[name] = fmean(summary[key] for summary in every_summary)
    return bounds


# -- curves


def draw_loss_panels(histories: Mapping[str, History]) -> Figure | None:
    """Draw training and validation loss, a panel a size, with one scale of loss for all."""
    if not histories:
        return None
    traces, rows, sentences = [], [], []
    layout: dict[str, Any] = {"height": 380}
    width = 1 / len(histories)
    for number, (size, history) in enumerate(histories.items(), 1):
        axis = "" if number == 1 else str(number)  # plotly calls them xaxis, xaxis2, ...
        for split, (key, colour) in SPLITS.items():
            x, y = thin_points(*(column.tolist() for column in history.get_series(key)))
            panel = {"xaxis": f"x{axis}", "yaxis": f"y{axis}", "legendgroup": split, "showlegend": number == 1}
            traces.append(make_line(x, y, split, colour, **panel))
            rows += [(size, split, *point) for point in zip(x, y, strict=True)]
            sentences += [f"{size} {split} {y[-1]:.4f}"] if y else []
        domain = [(number - 1) * width + 0.03, number * width - 0.01]
        layout[f"xaxis{axis}"] = make_axis(f"{size}, tokens", domain=domain)
        # `matches` ties all panels to the first one's range, so that their losses can be compared by eye
        layout[f"yaxis{axis}"] = {"matches": "y", "showticklabels": number == 1, "anchor": f"x{axis}"}
    return Figure(
        title="Loss of each size",
        data=traces,
        layout=layout,
        alt="; ".join(sentences),
        heads=("size", "split", "tokens", "nats/token"),
        rows=rows,
    )


def draw_over_tokens(title: str, unit: str, key: str, histories: Mapping[str, History]) -> Figure | None:
    """Draw a logged value over tokens, a line a size."""
    colours, traces, rows = assign_colours([*histories]), [], []
    for size, history in histories.items():
        x, y = thin_points(*(column.tolist() for column in history.get_series(key)))
        if y:
            traces.append(make_line(x, y, size, colours[size], mode="lines+markers" if len(y) < 30 else "lines"))
            rows += [(size, *point) for point in zip(x, y, strict=True)]
    if not traces:
        return None
    return Figure(
        title=title,
        data=traces,
        layout={"xaxis": make_axis("tokens"), "yaxis": make_axis(unit, type="log"), "height": 340},
        alt="; ".join(f"{trace['name']}: {fmean(trace['y']):.3g} {unit} on average" for trace in traces),
        heads=("size", "tokens", unit),
        rows=rows,
    )


def thin_points(x: list[float], y: list[float]) -> tuple[list[float], list[float]]:
    """Return at most `MAX_POINTS` evenly spread points, the first and the last one among them."""
    if len(x) <= MAX_POINTS:
        return x, y
    thinned_x, thinned_y = [], []
    for number in range(MAX_POINTS):
        index = round(number * (len(x) - 1) / (MAX_POINTS - 1))
        thinned_x.append(x[index])
        thinned_y.append(y[index])
    return thinned_x, thinned_y


# -- totals


def draw_time_totals(summaries: Mapping[str, list[dict[str, Any]]]) -> Figure | None:
    """Draw the minutes of a run by what they went into, stacked; means over the runs of a size."""
    summaries = {size: group for size, group in summaries.items() if group}
    if not summaries:
        return None
    traces: list[dict[str, Any]] = []
    rows: dict[str, list[Any]] = {size: [size] for size in summaries}  # a row a size, a column a part
    for (key, part), colour in zip(PARTS.items(), COLOURS, strict=False):
        minutes = []
        for size, group in summaries.items():
            minutes.append(fmean(summary.get(key) or 0.0 for summary in group) / 60)
            rows[size].append(minutes[-1])
        traces.append({"type": "bar", "name": part, "x": [*summaries], "y": minutes, "marker": {"color": colour}})
    heads = ("size", *(f"{part}, minutes" for part in PARTS.values()))
    sentences = [f"{size}: {sum(parts):.2f} minutes" for size, *parts in rows.values()]
    return Figure(
        title="Where the time goes",
        data=traces,
        layout={"barmode": "stack", "yaxis": make_axis("minutes a run"), "height": 340},
        alt="; ".join(sentences),
        heads=heads,
        rows=[tuple(row) for row in rows.values()],
    )
