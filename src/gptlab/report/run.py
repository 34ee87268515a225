"""One run as a report: what it reached, what it was made of, how it went, what it writes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gptlab.console.units import format_duration
from gptlab.errors import Refused
from gptlab.report import history, setup
from gptlab.report.figures import positions, sizes
from gptlab.report.figures.study import COLOURS, GREY, line, titled
from gptlab.report.history import History
from gptlab.report.model import Code, Figure, Item, Report, Sections, Table, Texts, Words
from gptlab.report.text.columns import Column
from gptlab.report.text.view import Strong, said
from gptlab.runs.record import RunFolder, read_json, read_recipe

SHOWN = 6
"""Texts of the page."""
LONGEST = 600
"""Characters of each."""
METRICS = {
    "val/loss": "loss, nats/token",
    "val/loss_best": "best loss, nats/token",
    "val/bits_per_byte": "bits/byte",
    "val/perplexity": "perplexity",
    "val/token_accuracy": "token accuracy",
    "params": "parameters",
    "flops_per_token": "FLOPs/token",
    "cache_bytes_per_token": "cache, bytes/token",
    "memory/peak_bytes": "peak memory, bytes",
    "time/step_ms_median": "step, ms",
    "throughput/tokens_per_s": "tokens/s",
    "time/generate_ms_per_token": "writing, ms/token",
}


def report(folder: Path) -> Report:
    """A run that is over or not. Refuses what is no run folder."""
    if not (folder / "run.json").exists():
        raise Refused(f"{folder} is neither a study nor a run: it holds no study.json and no run.json")
    recipe, facts = read_recipe(folder), RunFolder(folder).read_facts()
    summary = read_json(folder / "summary.json") if (folder / "summary.json").exists() else {}
    status = summary.get("status", "unfinished")
    told, texts, made = history.history(folder, recipe.folder), history.last_texts(folder), Sections()
    made.add("setup", "Setup", setup.together([setup.of_run(folder)]) if summary else None)
    made.add("results", "Results", _numbers(summary), *_words(summary, texts))
    made.add("curves", "On the way", *_curves(told))
    made.add("timings", "Timings", *_timings(summary, told, texts))
    made.add("where", "Where the loss is", _places(folder))
    made.add("positions", "Positions", *positions.figures(folder))
    made.add(
        "samples", "What it writes", Texts({"": [row["text"][:LONGEST] for row in texts[:SHOWN]]} if texts else {})
    )
    config = (folder / "config.yaml").read_text(encoding="utf-8")
    made.add(
        "again", "To do it again", Code("The command:", facts["command"]), Code("The config that it led to:", config)
    )
    taken = f", {format_duration(summary['time/total_s'])} in all" if "time/total_s" in summary else ""
    line = f"{status}{taken}; seed {recipe.config['seed']}, begun {facts['started']}."
    return Report(folder.name, line, {"": Words(_answer(summary, status))}, made.found, facts["command"])


def _answer(summary: Mapping[str, Any], status: str) -> list:
    if "val/loss" not in summary:
        return [said("The run is ", Strong(status), f". {summary.get('reason', '')}".rstrip(". ") + ".")]
    lines = [said("Loss ", Strong(f"{summary['val/loss']:.4f}"), " nats/token on the whole validation split.")]
    if "val/word_accuracy" in summary:
        found, floor, ceiling = (summary.get(f"val/word_accuracy{end}", 0.0) for end in ("", "_floor", "_ceiling"))
        lines.append(
            said(
                "Of the words that it writes ",
                Strong(f"{found:.0%}"),
                f" are words; blind {floor:.0%}, real {ceiling:.0%}.",
            )
        )
    speed = summary.get("throughput/tokens_per_s") or 0
    return [*lines, said(f"{summary['params']:,} parameters; it learnt {speed:,.0f} tokens/s on {summary['device']}.")]


def _numbers(summary: Mapping[str, Any]) -> Table:
    found = {name: summary[key] for key, name in METRICS.items() if summary.get(key) is not None}
    values = [f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" for value in found.values()]
    return Table("The whole validation split, and what it cost", [Column("", [*found], left=True), Column("", values)])


def _words(summary: Mapping[str, Any], texts: list[dict[str, Any]]) -> list[Figure | None]:
    """Each text metric as a violin of its texts, between blind and real ones."""
    names = [key.removeprefix("val/").removesuffix("_floor") for key in summary if key.endswith("_floor")]
    return [
        sizes.violins(
            f"{name.replace('_', ' ').capitalize()} of each text",
            "share",
            {"texts": [row[name] for row in texts if name in row]},
            {end: summary[f"val/{name}_{end}"] for end in ("floor", "ceiling") if f"val/{name}_{end}" in summary},
        )
        for name in names
    ]


def _curves(told: History) -> list[Item | None]:
    losses = {"training": ("train/loss", COLOURS[0]), "validation": ("val/loss", COLOURS[1])}
    return [
        _lines("Loss", "nats/token", told, losses),
        _lines("Learning rate", "learning rate", told, {"learning rate": ("lr", GREY)}),
        _lines("Norm of the gradient", "norm", told, {"gradient": ("train/gradient_norm", COLOURS[2])}),
    ]


def _timings(summary: Mapping[str, Any], told: History, texts: list[dict[str, Any]]) -> list[Item | None]:
    return [
        sizes.totals({"this run": [dict(summary)]}) if "time/total_s" in summary else None,
        _lines("Time of a step", "ms", told, {"step": ("time/step_ms", COLOURS[4])}),
        _lines("Time of each evaluation", "seconds", told, {"evaluation": ("time/evaluate_s", COLOURS[5])}),
        sizes.violins(
            "Time to write each text", "seconds", {"texts": [row["seconds"] for row in texts if "seconds" in row]}
        ),
    ]


def _lines(title: str, unit: str, told: History, wanted: Mapping[str, tuple[str, str]]) -> Figure | None:
    data, rows, alt, whole = [], [], [], 0
    for name, (key, colour) in wanted.items():
        x, y = (part.tolist() for part in told.values(key))
        if y:
            whole = max(whole, len(y))
            x, y = sizes.thinned(x, y)
            data.append(line(x, y, name, colour, mode="lines+markers" if len(y) < 30 else "lines"))
            rows += [(name, *point) for point in zip(x, y, strict=True)]
            alt.append(f"{name} from {y[0]:.4g} to {y[-1]:.4g}")
    if not data:
        return None
    layout = {"xaxis": titled("tokens"), "yaxis": titled(unit), "height": 340}
    note = f"Thinned: {history.MOST} of {whole} points are shown." if whole > history.MOST else ""
    return Figure(title, data, layout, "; ".join(alt), ("what", "tokens", unit), rows, note)


def _places(folder: Path) -> Figure | None:
    found = history.of_positions(folder)
    if found is None or len(found) < 2:
        return None
    places, title = [*range(len(found))], "Loss by position in the window"
    layout = {"xaxis": titled("tokens before"), "yaxis": titled("nats/token"), "height": 320}
    alt, rows = f"from {found[0]:.3f} to {found[-1]:.3f}", [*zip(places, found, strict=True)]
    return Figure(title, [line(places, found, "loss", COLOURS[0])], layout, alt, ("place", "nats/token"), rows)
