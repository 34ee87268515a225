"""Table of what runs were made of: text, sizes, recipe, machine. Where runs differ, each value is listed.

And the commands that go on with a study.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from gptlab.console.units import format_two_digits
from gptlab.errors import Refused
from gptlab.report.model import Code, Item, Table
from gptlab.report.text.columns import Column
from gptlab.report.text.view import build_command
from gptlab.runs.record import REMEDY, read_json, read_recipe
from gptlab.stats.results import Findings, Run
from gptlab.stats.summary_keys import SUMMARY_KEYS, list_names

MAX_VALUES = 4
"""Different values of a fact that are listed; the others are counted."""
FACTS = list_names(
    "device", "precision", "torch", "lightning", "python", "attention/kernel", "code", "git", "data_sha256"
)
SLOTS = ("data", "tokenizer", "model", "optimizer", "schedule")


def build_setup_table(runs: Sequence[Run], pool: Path | None) -> Table:
    """Return the setup of all runs that finished; without a pool, only the facts that the runs hold."""
    facts = []
    for run in runs:
        # a run that failed has said nothing of what it ran on
        if run.status != "finished":
            continue
        if pool is None:
            facts.append({name: run.facts[key] for key, name in FACTS.items() if key in run.facts})
        elif (pool / run.folder / "summary.json").exists():
            facts.append(describe_run(pool / run.folder))
    return make_facts_table(facts)


def make_facts_table(facts: Sequence[dict[str, str]]) -> Table:
    """Return a table of the facts of several runs: each fact once, with every value that it has."""
    values_by_name: dict[str, dict[str, None]] = {}  # dicts as sets that keep their order
    for facts_of_run in facts:
        for name, value in facts_of_run.items():
            values_by_name.setdefault(name, {})[value] = None
    values = [_join_values(values) for values in values_by_name.values()]
    return Table(
        "What every run was made of", [Column("", [*values_by_name], left=True), Column("", values, left=True)]
    )


ALWAYS_THERE = ("val/loss", "params", "device")
"""What the summary of every finished run says."""


def read_summary(folder: Path) -> dict[str, Any]:
    """Return the summary of a run, {} if it is not over; refuse a text where a number is declared."""
    path = folder / "summary.json"
    # null is no value, as a key that an older gptlab did not have
    summary = {key: value for key, value in (read_json(path) if path.exists() else {}).items() if value is not None}
    for key, value in summary.items():
        declared = SUMMARY_KEYS.get(key)
        is_number = bool(declared.unit or declared.better != "none") if declared else key.startswith("val/")
        if is_number and not isinstance(value, int | float):
            raise Refused(f"{path}: {key}={value!r} is no number; {REMEDY}")
    for key in ALWAYS_THERE if summary.get("status") == "finished" else ():
        if key not in summary:
            raise Refused(f"{path} does not say {key}; {REMEDY}")
    return summary


def describe_run(folder: Path) -> dict[str, str]:
    """Return the setup of one run that is over, by the name of each fact."""
    recipe, summary = read_recipe(folder), read_summary(folder)
    config, choices = recipe.config, recipe.choices
    model = config["model"]
    facts = {slot: str(choices[slot]) for slot in SLOTS if choices.get(slot)}
    facts |= {
        "sizes": (
            f"width {model['width']}, {model['heads']} heads, {model['layers']} layers, context {model['context']}"
        ),
        "learning rate": f"{model['lr']:g}",
        "batch": f"{config['batch_size']} x {model['context']} tokens",
    }
    facts |= _describe_tokens(summary)
    return facts | {name: str(summary[key]) for key, name in FACTS.items() if summary.get(key)}


def _describe_tokens(summary: dict[str, Any]) -> dict[str, str]:
    """Return how many tokens a run learnt from, and how often."""
    tokens, split_tokens = summary.get("tokens") or 0, summary.get("train_tokens")
    facts = {"steps": f"{summary.get('steps') or 0:,}", "tokens seen": f"{tokens:,}"}
    # a synthetic task has no split that could be gone through twice
    if split_tokens:
        facts |= {"tokens of the split": f"{split_tokens:,}", "epochs": format_two_digits(tokens / split_tokens)}
    if params := summary.get("params"):
        facts["tokens per parameter"] = format_two_digits(tokens / params)
    return facts


def _join_values(values: Iterable[str]) -> str:
    values = [*values]
    more = f", and {len(values) - MAX_VALUES} more" if len(values) > MAX_VALUES else ""
    return ", ".join(values[:MAX_VALUES]) + more


def build_commands(findings: Findings) -> list[Item]:
    """Return the commands that go on with a study."""
    plan = findings.plan
    # the command up to the next planned look: seeds beyond the plan make verdicts exploratory
    next_look = next((look for look in plan.looks if look > len(plan.seeds)), None)
    if next_look is not None:
        extra = next_look - len(plan.seeds)
        more = f"Up to the next look, at {next_look} seeds; what is done is used again:"
    else:
        warning = ", which the plan of looks does not have: its verdicts are exploratory" if plan.looks else ""
        extra, more = 2, f"With two more seeds{warning}; what is done is used again:"
    return [
        Code("The same study goes on where it stands:", build_command(plan)),
        Code(more, build_command(plan, extra)),
    ]
