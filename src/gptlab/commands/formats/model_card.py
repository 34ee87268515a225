"""A model card, README.md of an exported folder: what the run is, and every verdict that was reached with it.

Verdicts are those of the studies of the same outputs folder whose comparison.json holds the run.
"""

import json
from pathlib import Path
from typing import Any

from gptlab.commands.unfinished import describe_end
from gptlab.report.render.markdown import escape_markdown
from gptlab.report.setup import describe_run, read_summary
from gptlab.runs.record import RunFolder, read_recipe

FINAL = ("val/loss", "val/perplexity", "val/bits_per_byte", "val/token_accuracy")
"""Numbers of the summary that a card has."""


def render_model_card(run: Path) -> str:
    """Return the card of a run as Markdown, under the header that the Hugging Face hub reads."""
    recipe, facts = read_recipe(run), RunFolder(run).read_facts()
    summary = read_summary(run)
    lines = ["---", "library_name: transformers", "tags:", "- gptlab", "---", "", f"# {escape_markdown(run.name)}", ""]
    lines += [f"A GPT decoder trained by gptlab: {escape_markdown(', '.join(recipe.differs) or 'all defaults')}.", ""]
    if end := describe_end(run):
        lines += [f"**The run {escape_markdown(end)}.**", ""]
    if summary:
        setup = {name: value for name, value in describe_run(run).items() if name != "device"}
        numbers = {key: f"{summary[key]:.4f}" for key in FINAL if summary.get(key) is not None}
        rows = {"parameters": f"{summary.get('params', 0):,}", **setup, **numbers, "seed": str(recipe.config["seed"])}
        lines += ["| what | value |", "| :-- | :-- |"]
        lines += [f"| {escape_markdown(name)} | {escape_markdown(value)} |" for name, value in rows.items()]
        lines += ["", "Losses are nats per token over every target of the validation split.", ""]
    lines += ["## Verdicts", ""]
    verdicts = list_verdicts(run)
    lines += verdicts or ["No study has compared this run, so nothing is said of its parts against others."]
    return "\n".join([*lines, "", "## To train it again", "", f"    {facts.get('command', '')}", ""])


def list_verdicts(run: Path) -> list[str]:
    """Return a line for each verdict of a study about the arm of this run."""
    lines = []
    # outputs/runs/RUN, so two folders up are the outputs
    for file in sorted((run.resolve().parents[1] / "ablations").glob("*/comparison.json")):
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
            arms = {row["arm"] for row in document["runs"] if row.get("folder") == run.resolve().name}
            lines += [line for stratum in document["strata"] for line in _describe_verdicts(document, stratum, arms)]
        except (OSError, ValueError, KeyError, TypeError):  # of another version, or being written
            continue
    return lines


def _describe_verdicts(document: dict[str, Any], stratum: dict[str, Any], arms: set[str]) -> list[str]:
    lines = []
    for comparison in stratum["comparisons"][:1]:
        unit = comparison["metric"]["unit"]
        for contrast in comparison["contrasts"]:
            # also where the run is the baseline: what others lost to it speaks of it too
            if not arms & {contrast["arm"], contrast["against"]}:
                continue
            interval = f"{contrast['difference']:+.4f} {unit}"
            if contrast["low"] is not None and contrast["high"] is not None:
                interval += f", 95 % interval {contrast['low']:+.4f} to {contrast['high']:+.4f}"
            arm, against = escape_markdown(contrast["arm"]), escape_markdown(contrast["against"])
            seeds = f"{len(contrast['seeds'])} seeds"
            verdict = contrast.get("label") or contrast["verdict"]
            lines.append(f"- {arm} is **{verdict}** against {against}: {interval}; {seeds}, study {document['study']}")
    return lines
