"""What runs were made of, as a table: text, sizes, recipe, machine. Where runs differ, each value is listed."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from gptlab.report.model import Table
from gptlab.report.text.columns import Column
from gptlab.runs.record import read_json, read_recipe
from gptlab.stats.results import Run

MANY = 4
"""Different values that are listed."""
FACTS = {
    "device": "device",
    "precision": "precision",
    "torch": "torch",
    "lightning": "lightning",
    "python": "python",
    "attention/kernel": "attention kernel",
    "code": "code fingerprint",
    "git": "git",
    "data_sha256": "sha256 of the text",
}
SLOTS = ("data", "tokenizer", "model", "optimizer", "schedule")


def table(runs: Sequence[Run], pool: Path | None) -> Table:
    """Of all runs that finished; of the facts that are at hand, where there is no pool."""
    over = [run for run in runs if run.status == "finished"]
    if pool is None:
        kept = [{name: run.facts[key] for key, name in FACTS.items() if key in run.facts} for run in over]
    else:
        kept = [of_run(pool / run.folder) for run in over if (pool / run.folder / "summary.json").exists()]
    return together(kept)


def together(kept: Sequence[dict[str, str]]) -> Table:
    """Each fact once, with every value that it has."""
    found: dict[str, dict[str, None]] = {}
    for one in kept:
        for name, value in one.items():
            found.setdefault(name, {})[value] = None
    names, values = [*found], [_listed(value) for value in found.values()]
    return Table("What every run was made of", [Column("", names, left=True), Column("", values, left=True)])


def of_run(folder: Path) -> dict[str, str]:
    """One run's."""
    recipe, summary = read_recipe(folder), read_json(folder / "summary.json")
    config, choices = recipe.config, recipe.choices
    found = {slot: str(choices[slot]) for slot in SLOTS if choices.get(slot)}
    model = config["model"]
    found["sizes"] = (
        f"width {model['width']}, {model['heads']} heads, {model['layers']} layers, context {model['context']}"
    )
    found |= {"learning rate": f"{model['lr']:g}", "batch": f"{config['batch_size']} x {model['context']} tokens"}
    found |= _seen(summary)
    return found | {name: str(summary[key]) for key, name in FACTS.items() if summary.get(key)}


def _seen(summary: dict[str, Any]) -> dict[str, str]:
    """How much was learnt from, and how often."""
    tokens, there = summary.get("tokens", 0), summary.get("train_tokens")
    found = {"steps": f"{summary.get('steps', 0):,}", "tokens seen": f"{tokens:,}"}
    if there:
        found |= {"tokens of the split": f"{there:,}", "epochs": f"{tokens / there:.2g}"}
    if params := summary.get("params"):
        found["tokens per parameter"] = f"{tokens / params:.2g}"
    return found


def _listed(values: Iterable[str]) -> str:
    every = [*values]
    more = f", and {len(every) - MANY} more" if len(every) > MANY else ""
    return ", ".join(every[:MANY]) + more
