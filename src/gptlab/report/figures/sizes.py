"""Models of several sizes side by side, in seven plots: what they write and how fast, what they lose, what they cost.

The plots are those of github.com/paco23ch/cic_cc_p02_transformer: word accuracy and time of each text as violins; loss
on both splits, a panel a size; milliseconds of a step; seconds of an evaluation; minutes in all; the position table.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from gptlab.report import history
from gptlab.report.figures import positions
from gptlab.report.figures.study import COLOURS, GREY, line, painted, titled
from gptlab.report.history import MOST, History
from gptlab.report.model import Figure
from gptlab.runs.record import read_json

PARTS = {
    "start": "time/start_s",
    "training": "time/train_s",
    "evaluation": "time/evaluate_s",
    "samples": "time/samples_s",
}


def figures(folders: Mapping[str, Sequence[Path]]) -> list[Figure]:
    """Those plots that the runs have the numbers for. `folders`: finished runs by size."""
    texts = {size: [row for folder in some for row in history.last_texts(folder)] for size, some in folders.items()}
    summaries = {size: [read_json(folder / "summary.json") for folder in some] for size, some in folders.items()}
    told = {size: history.history(some[0], size) for size, some in folders.items() if some}
    tables = [
        one for size, some in folders.items() for folder in some[:1] for one in positions.figures(folder, size)[:1]
    ]
    made = [
        violins("Word accuracy of each text", "share of words", _of_texts(texts, "word_accuracy"), _bounds(summaries)),
        violins("Time to write each text", "seconds", _seconds(texts, summaries)),
        panels(told),
        over_steps("Time of a step", "ms", "time/step_ms", told),
        over_steps("Time of each evaluation", "seconds", "time/evaluate_s", told),
        totals(summaries),
    ]
    return [one for one in made if one is not None] + tables


def violins(
    title: str, unit: str, found: Mapping[str, list[float]], bounds: Mapping[str, float] | None = None
) -> Figure | None:
    """One a size, every value a point."""
    found = {size: values for size, values in found.items() if values}
    if not found:
        return None
    paint = painted([*found])
    data = [
        {
            "type": "violin",
            "y": values,
            "name": size,
            "line": {"color": paint[size]},
            "spanmode": "hard",  # no density where no value can be
            "points": "all",
            "pointpos": 0,
            "jitter": 0.3,
            "marker": {"size": 3},
            "meanline": {"visible": True},
        }
        for size, values in found.items()
    ]
    look = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "line": {"color": GREY, "dash": "dot", "width": 1.5}}
    layout: dict[str, Any] = {"yaxis": titled(unit), "height": 380, "showlegend": False}
    layout["shapes"] = [{**look, "y0": value, "y1": value} for value in (bounds or {}).values()]
    note = "Dotted: " + ", ".join(f"{name} {value:.2f}" for name, value in bounds.items()) + "." if bounds else ""
    alt = "; ".join(f"{size}: mean {fmean(values):.3g} of {len(values)}" for size, values in found.items())
    rows = [(size, value) for size, values in found.items() for value in values]
    return Figure(title, data, layout, alt, ("size", unit), rows, note)


def panels(found: Mapping[str, History]) -> Figure | None:
    """Training and validation loss, a panel a size, one scale of loss for all."""
    if not found:
        return None
    data, rows, notes = [], [], []
    layout: dict[str, Any] = {"height": 380}
    wide = 1 / len(found)
    for at, (size, one) in enumerate(found.items(), 1):
        tail = "" if at == 1 else str(at)
        for key, colour in (("train/loss", COLOURS[0]), ("val/loss", COLOURS[1])):
            x, y = thinned(*(part.tolist() for part in one.values(key)))
            name = {"train/loss": "training", "val/loss": "validation"}[key]
            shown = {"xaxis": f"x{tail}", "yaxis": f"y{tail}", "legendgroup": name, "showlegend": at == 1}
            data.append(line(x, y, name, colour, **shown))
            rows += [(size, name, *point) for point in zip(x, y, strict=True)]
            notes += [f"{size} {name} {y[-1]:.4f}"] if y else []
        layout[f"xaxis{tail}"] = titled(f"{size}, tokens", domain=[(at - 1) * wide + 0.03, at * wide - 0.01])
        layout[f"yaxis{tail}"] = {"matches": "y", "showticklabels": at == 1, "anchor": f"x{tail}"}
    return Figure("Loss of each size", data, layout, "; ".join(notes), ("size", "split", "tokens", "nats/token"), rows)


def over_steps(title: str, unit: str, key: str, found: Mapping[str, History]) -> Figure | None:
    """A value of each row, a line a size."""
    paint, data, rows = painted([*found]), [], []
    for size, one in found.items():
        x, y = thinned(*(part.tolist() for part in one.values(key)))
        if y:
            data.append(line(x, y, size, paint[size], mode="lines+markers" if len(y) < 30 else "lines"))
            rows += [(size, *point) for point in zip(x, y, strict=True)]
    if not data:
        return None
    layout = {"xaxis": titled("tokens"), "yaxis": titled(unit, type="log"), "height": 340}
    alt = "; ".join(f"{one['name']}: {fmean(one['y']):.3g} {unit} on average" for one in data)
    return Figure(title, data, layout, alt, ("size", "tokens", unit), rows)


def totals(summaries: Mapping[str, list[dict[str, Any]]]) -> Figure | None:
    """Minutes of a run by what they went into, stacked."""
    found = {size: some for size, some in summaries.items() if some}
    if not found:
        return None
    minutes = {
        part: [fmean(one.get(key) or 0.0 for one in some) / 60 for some in found.values()]
        for part, key in PARTS.items()
    }
    data = [
        {"type": "bar", "name": part, "x": [*found], "y": values, "marker": {"color": COLOURS[at]}}
        for at, (part, values) in enumerate(minutes.items())
    ]
    rows = [(size, *(values[at] for values in minutes.values())) for at, size in enumerate(found)]
    alt = "; ".join(f"{row[0]}: {sum(row[1:]):.2f} minutes" for row in rows)
    layout = {"barmode": "stack", "yaxis": titled("minutes a run"), "height": 340}
    return Figure("Where the time goes", data, layout, alt, ("size", *(f"{part}, minutes" for part in minutes)), rows)


def _of_texts(texts: Mapping[str, list[dict]], key: str) -> dict[str, list[float]]:
    return {size: [row[key] for row in some if key in row] for size, some in texts.items()}


def _seconds(texts: Mapping[str, list[dict]], summaries: Mapping[str, list[dict]]) -> dict[str, list[float]]:
    """Of each text; where a run wrote all of them in one batch, its mean: one value a run."""
    made = _of_texts(texts, "seconds")
    for size, values in made.items():
        if not values:
            count = len(texts[size]) / max(1, len(summaries[size]))
            made[size] = [
                one["time/generate_cached_s"] / count
                for one in summaries[size]
                if count and "time/generate_cached_s" in one
            ]
    return made


def _bounds(summaries: Mapping[str, list[dict[str, Any]]]) -> dict[str, float]:
    """What blind and real texts would have."""
    every = [one for some in summaries.values() for one in some]
    keys = {name: f"val/word_accuracy_{name}" for name in ("floor", "ceiling")}
    return {
        name: fmean(one[key] for one in every)
        for name, key in keys.items()
        if every and all(key in one for one in every)
    }


def thinned(x: list[float], y: list[float]) -> tuple[list[float], list[float]]:
    """As many evenly spread points as a curve shows."""
    if len(x) <= MOST:
        return x, y
    kept = [round(at * (len(x) - 1) / (MOST - 1)) for at in range(MOST)]
    return [x[at] for at in kept], [y[at] for at in kept]
