"""The report of one run: what it reached, what it was made of, how it went, what it writes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gptlab.console.units import format_duration
from gptlab.errors import Refused
from gptlab.report.figures.experts import draw_expert_load
from gptlab.report.figures.parts import COLOURS, GREY, make_axis, make_line
from gptlab.report.figures.positions import draw_position_figures
from gptlab.report.figures.sizes import SPLITS, draw_time_totals, draw_violins, thin_points
from gptlab.report.history import (
    MAX_POINTS,
    History,
    read_history,
    read_last_texts,
    read_loss_by_position,
    read_loss_in_document,
)
from gptlab.report.model import Code, Figure, Item, Report, Sections, Table, Texts, Words
from gptlab.report.setup import describe_run, make_facts_table, read_summary
from gptlab.report.text.columns import Column
from gptlab.report.text.markup import Sentence, bold, escape, parse_sentence
from gptlab.runs.record import REMEDY, RunFolder, read_recipe
from gptlab.runs.unfinished import UnfinishedRun, find_unfinished
from gptlab.stats.summary_keys import SUMMARY_KEYS

MAX_TEXTS = 6
"""Texts of the page."""
MAX_CHARACTERS = 600
"""Characters of each text."""
METRICS = (
    "val/loss",
    "val/loss_best",
    "val/bits_per_byte",
    "val/perplexity",
    "val/token_accuracy",
    "val/answer_bits",
    "val/minimal_pairs",
    "params",
    "params_active",
    "flops_per_token",
    "cache_bytes_per_token",
    "memory/peak_bytes",
    "time/step_ms_median",
    "throughput/tokens_per_s",
    "time/generate_ms_per_token",
)
"""Keys of summary.json that the table shows."""


def build_run_report(folder: Path) -> Report:
    """Return the report of a run that is over or not. Refuses what is no run folder."""
    if not (folder / "run.json").exists():
        raise Refused(f"{folder} is neither a study nor a run: it holds no study.json and no run.json")
    recipe, facts = read_recipe(folder), RunFolder(folder).read_facts()
    summary = read_summary(folder)
    unfinished = find_unfinished(folder)
    status = summary.get("status") or ("at work" if unfinished and unfinished.at_work else "unfinished")
    command = facts.get("command")
    if not isinstance(command, str):
        raise Refused(f"{folder / 'run.json'} has no command; {REMEDY}")
    history, rows = read_history(folder, recipe.folder), read_last_texts(folder)
    # a few: samples.jsonl has all
    texts = [row["text"][:MAX_CHARACTERS] for row in rows[:MAX_TEXTS]]
    config = (folder / "config.yaml").read_text(encoding="utf-8")
    sections = Sections()
    # known from the summary alone, so a run that is not over has no such section
    sections.add("setup", "Setup", make_facts_table([describe_run(folder)]) if summary else None)
    sections.add("results", "Results", build_metrics_table(summary), *_draw_text_metrics(summary, rows))
    sections.add("curves", "On the way", *_draw_curves(history), draw_expert_load(folder))
    sections.add("timings", "Timings", *_draw_timings(summary, history, rows))
    sections.add("where", "Where the loss is", _draw_loss_by_position(folder), _draw_loss_in_document(folder))
    sections.add("positions", "Positions", *draw_position_figures(folder))
    sections.add("samples", "What it writes", Texts({"": texts} if texts else {}))
    sections.add("again", "To do it again", Code("The command:", command), Code("The config that it led to:", config))
    time = f", {format_duration(summary['time/total_s'])} in all" if "time/total_s" in summary else ""
    return Report(
        title=folder.name,
        line=f"{status}{time}; seed {recipe.config['seed']}, begun {facts.get('started', 'some time')}.",
        answers={"": Words(_summarize_run(summary, status, unfinished))},
        sections=sections.sections,
        command=command,
    )


def _summarize_run(summary: Mapping[str, Any], status: str, unfinished: UnfinishedRun | None) -> list[Sentence]:
    """Return the answer of a run: how far it is, why it ended, or its loss, words and speed."""
    if unfinished is not None:
        where = f"The run is {bold(status)}: {unfinished.progress}"
        if unfinished.command is None:
            return [parse_sentence(f"{where}.")]
        return [parse_sentence(f"{where}; it goes on with:", unfinished.command)]
    # diverged
    if "val/loss" not in summary:
        reason = f". {summary.get('reason', '')}".rstrip(". ")
        return [parse_sentence(f"The run is {bold(status)}{escape(reason)}.")]
    scored, split = summary.get("scored_tokens"), summary.get("validation_tokens", 0)
    # the first token of a split has nothing before it, and is no target: all of it is one less
    where = f"{scored:,} tokens spread evenly over" if scored and scored < split - 1 else "the whole of"
    sentences = [parse_sentence(f"Loss **{summary['val/loss']:.4f}** nats/token on {where} the validation split.")]
    if "val/word_accuracy" in summary:
        accuracy, floor, ceiling = (summary.get(f"val/word_accuracy{end}", 0.0) for end in ("", "_floor", "_ceiling"))
        sentences.append(
            parse_sentence(
                f"Of the words that it writes **{100 * accuracy:.0f} %** are words of the text (floor: "
                f"{100 * floor:.0f} % of random tokens; ceiling: {100 * ceiling:.0f} % of the validation split)."
            )
        )
    speed = summary.get("throughput/tokens_per_s") or 0
    device = escape(str(summary["device"]))
    sentences.append(parse_sentence(f"{summary['params']:,} parameters; it learnt {speed:,.0f} tokens/s on {device}."))
    return sentences


def build_metrics_table(summary: Mapping[str, Any]) -> Table:
    """Return what a run reached and cost, a metric a row."""
    names, values = [], []
    for key in METRICS:
        value = summary.get(key)
        # a summary of an older gptlab, or of a task, lacks some of these keys
        if value is not None:
            names.append(SUMMARY_KEYS[key].title)
            # four digits, and none of a large number's in powers of ten
            values.append(f"{value:.4g}" if isinstance(value, float) and abs(value) < 1000 else f"{value:,.0f}")
    return Table("The whole validation split, and what it cost", [Column("", names, left=True), Column("", values)])


def _draw_text_metrics(summary: Mapping[str, Any], rows: list[dict[str, Any]]) -> list[Figure | None]:
    """Draw each text metric as a violin over texts, between those of random and of real ones."""
    figures = []
    for key in summary:
        # only a metric of texts has a floor and a ceiling: so the metrics of one's own are drawn too
        if key.endswith("_floor"):
            name = key.removeprefix("val/").removesuffix("_floor")
            title = f"{name.replace('_', ' ').capitalize()} of each text"
            bounds = {end: summary.get(f"val/{name}_{end}") for end in ("floor", "ceiling")}
            bounds = {end: bound for end, bound in bounds.items() if bound is not None}
            figures.append(draw_violins(title, "share", {"texts": [row[name] for row in rows if name in row]}, bounds))
    return figures


def _draw_curves(history: History) -> list[Item | None]:
    return [
        _draw_lines("Loss", "nats/token", history, SPLITS),
        _draw_lines("Learning rate", "learning rate", history, {"learning rate": ("lr", GREY)}),
        _draw_lines("Norm of the gradient", "norm", history, {"gradient": ("train/gradient_norm", COLOURS[2])}),
    ]


def _draw_timings(summary: Mapping[str, Any], history: History, rows: list[dict[str, Any]]) -> list[Item | None]:
    seconds = [row["seconds"] for row in rows if "seconds" in row]
    return [
        draw_time_totals({"this run": [dict(summary)]}) if "time/total_s" in summary else None,
        _draw_lines("Time of a step", "ms", history, {"step": ("time/step_ms", COLOURS[4])}),
        _draw_lines("Time of each evaluation", "seconds", history, {"evaluation": ("time/evaluate_s", COLOURS[5])}),
        draw_violins("Time to write each text", "seconds", {"texts": seconds}),
    ]


def _draw_lines(title: str, unit: str, history: History, keys: Mapping[str, tuple[str, str]]) -> Figure | None:
    """Draw logged values over tokens. `keys`: key and colour by the name of each line."""
    traces, rows, sentences, most_points = [], [], [], 0
    for name, (key, colour) in keys.items():
        x, y = (column.tolist() for column in history.get_series(key))
        if y:
            most_points = max(most_points, len(y))
            # after counting, so that the note below says how many there were
            x, y = thin_points(x, y)
            # a line through few points hides where they lie, one point is no line at all
            traces.append(make_line(x, y, name, colour, mode="lines+markers" if len(y) < 30 else "lines"))
            rows += [(name, *point) for point in zip(x, y, strict=True)]
            sentences.append(f"{name} from {y[0]:.4g} to {y[-1]:.4g}")
    if not traces:
        return None
    is_thinned = most_points > MAX_POINTS
    return Figure(
        title=title,
        data=traces,
        layout={"xaxis": make_axis("tokens"), "yaxis": make_axis(unit), "height": 340},
        alt="; ".join(sentences),
        heads=("what", "tokens", unit),
        rows=rows,
        note=f"Thinned: {MAX_POINTS} of {most_points} points are shown." if is_thinned else "",
    )


def _draw_loss_by_position(folder: Path) -> Figure | None:
    """Draw nats by the number of tokens before the target in its window."""
    losses = read_loss_by_position(folder)
    # a run that was not evaluated, or a context of one token
    if losses is None or len(losses) < 2:
        return None
    positions = [*range(len(losses))]
    return Figure(
        title="Loss by position in the window",
        data=[make_line(positions, losses, "loss", COLOURS[0])],
        layout={"xaxis": make_axis("tokens before"), "yaxis": make_axis("nats/token"), "height": 320},
        alt=f"from {losses[0]:.3f} to {losses[-1]:.3f}",
        heads=("place", "nats/token"),
        rows=[*zip(positions, losses, strict=True)],
    )


def _draw_loss_in_document(folder: Path) -> Figure | None:
    """Draw nats by the number of tokens before the target in its document, in powers of 2."""
    losses_by_level = read_loss_in_document(folder)
    if losses_by_level is None or len(losses_by_level[0]) < 2:
        return None
    before, losses = losses_by_level
    return Figure(
        title="Loss by position in the document",
        # names, not numbers: 0 has no place on a logarithmic axis
        data=[make_line([str(count) for count in before], losses, "loss", COLOURS[0])],
        layout={
            "xaxis": {**make_axis("tokens of the document before, at least"), "type": "category"},
            "yaxis": make_axis("nats/token"),
            "height": 320,
        },
        alt=f"from {losses[0]:.3f} to {losses[-1]:.3f}",
        heads=("tokens before, at least", "nats/token"),
        rows=[*zip(before, losses, strict=True)],
    )
