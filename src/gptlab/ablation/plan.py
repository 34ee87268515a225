"""A question to a plan: arms made alike, cells, which of them are done, and the bill."""

import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from gptlab.ablation import bill
from gptlab.ablation.cells import Cell, Variant, asks, cells, distinct, of_baseline
from gptlab.ablation.cost import Costs, changed, disk, matched, tokens
from gptlab.ablation.question import Question
from gptlab.errors import Refused
from gptlab.runs.record import free_bytes, read
from gptlab.runs.study_folder import OVER, Ledger
from gptlab.stats.matching import describe_mismatch


@dataclass
class Plan:
    """A study about to run. `over`: the run of each cell that is done. Times are of the probe."""

    question: Question
    ledger: Ledger
    jobs: int
    costs: Costs = field(default_factory=Costs)
    variants: list[Variant] = field(default_factory=list)
    cells: dict[str, Cell] = field(default_factory=dict)
    over: dict[str, Path] = field(default_factory=dict)
    counts: dict[str, dict[str, float]] = field(default_factory=dict)
    step_ms: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    mismatch: list[str] = field(default_factory=list)

    @property
    def baselines(self) -> dict[str, Variant]:
        """The settled variants that are baselines, by size."""
        return {
            size: next(v for v in self.variants if v.key == one.key) for size, one in self.question.baselines.items()
        }

    def add(self, found: list[Cell]) -> None:
        """Adds cells, and looks which of them are done."""
        for cell in distinct(found):
            self.cells[cell.key] = cell
            done, _ = self.ledger.found(cell.key, cell.recipe, self.question.asked.reuse)
            if done is not None:
                self.over[cell.key] = done

    def look(self) -> None:
        """Notes the runs that are over by now."""
        states = self.ledger.states()
        self.over |= {
            k: self.ledger.pool / states[k].run for k in self.cells if k in states and states[k].status in OVER
        }

    def to_run(self) -> list[str]:
        """Keys of the cells that are not done."""
        return [key for key in self.cells if key not in self.over]


def plan(question: Question, jobs: int) -> Plan:
    """Settles the arms, finds what is done, counts and times the rest."""
    made = Plan(question, ledger(question), jobs)
    made.variants = settle(made)
    made.add(cells(question.asked, [at_home(one, made) for one in made.variants]))
    if question.asked.tune == "shared":  # else at a rate that is not known yet
        made.add([cell for one in made.baselines.values() for cell in of_baseline(question.asked, at_home(one, made))])
    count(made)
    return made


def ledger(question: Question) -> Ledger:
    """The folder of a question's study, there or not."""
    return Ledger(Path(question.outputs).absolute() / "ablations" / question.name)


def settle(made: Plan) -> list[Variant]:
    """The arms, made alike in what is to match: as they were settled before, if this study has begun."""
    question, costs = made.question, made.costs
    match, first = question.asked.match, next(iter(question.baselines.values()))
    before = made.ledger.asked.get("settled", {}) if (made.ledger.folder / "study.json").exists() else {}
    ms: dict[str, float] = {}
    found = []
    for variant in question.variants:
        base = question.baselines[variant.size]
        if variant.key in before:
            for knob, value, why in before[variant.key]:
                variant = changed(variant, knob, value, why)
        elif match == "tokens":
            if "steps" not in question.axes and tokens(variant.recipe) != tokens(first.recipe):
                variant = matched(variant, costs.counts, first.recipe, match, "", ms)
        elif variant is not base:
            if match == "time" and not ms:
                ms = costs.step_ms({one.key: one.recipe for one in question.variants}, rounds=15)
            times = {**ms, "": ms.get(base.key, 0.0)}
            variant = matched(variant, costs.counts, base.recipe, match, question.asked.resize, times)
        found.append(variant)
    return found


def at_home(variant: Variant, made: Plan) -> Variant:
    """A variant whose runs go to this study's outputs, and to its group in W&B."""
    config = variant.recipe.config
    tracking = {**config["tracking"], "group": config["tracking"]["group"] or made.question.name}
    home = {**config, "outputs": str(made.ledger.outputs), "tracking": tracking}
    return replace(variant, recipe=replace(variant.recipe, config=home))


def count(made: Plan) -> None:
    """What each arm costs: if all is done, from its runs; else counted and timed here, all arms in turn."""
    for variant in made.variants:
        folders = [
            made.over[key] for key, cell in made.cells.items() if cell.variant.key == variant.key and key in made.over
        ]
        known = [one for one in (read(folder / "summary.json") for folder in folders) if one["status"] == "finished"]
        if known:
            made.counts[variant.key] = {key: known[0][key] for key in COUNTED}
            made.step_ms[variant.key] = known[0]["time/step_ms_median"]
        else:
            made.counts[variant.key] = made.costs.counts(variant.recipe)
    if made.to_run() or len(made.step_ms) < len(made.variants):
        made.step_ms = made.costs.step_ms({variant.key: variant.recipe for variant in made.variants})
    estimate(made)
    made.mismatch = [line for size in made.question.baselines for line in _mismatch(made, size)]


COUNTED = ("params", "flops_per_token", "cache_bytes_per_token")


def estimate(made: Plan) -> None:
    """Seconds of each cell that is not done."""
    for key in made.to_run():
        cell = made.cells[key]
        made.seconds[key] = made.costs.seconds(cell.recipe, made.step_ms[cell.variant.key])


def _mismatch(made: Plan, size: str) -> list[str]:
    arms = {}
    for variant in made.variants:
        if variant.size == size:
            counts, trained = made.counts[variant.key], tokens(variant.recipe)
            arms[variant.name] = {**counts, "tokens": trained, "flops": trained * counts["flops_per_token"]}
    lines = describe_mismatch(arms, made.question.baselines[size].name)
    return [f"{size}: {line}" if size else line for line in lines]


def show(made: Plan, console: Console) -> None:
    """Prints the bill."""
    items = []
    for variant in made.variants:
        mine = [key for key, cell in made.cells.items() if cell.variant.key == variant.key]
        left = sum(key not in made.over for key in mine)
        items.append(
            bill.Item(variant.key, made.counts[variant.key], made.step_ms[variant.key], len(mine), left, variant.told)
        )
    written = sum(
        disk(made.counts[made.cells[key].variant.key]["params"], made.cells[key].recipe) for key in made.to_run()
    )
    question = made.question
    refuse_small_disk(question, written)
    bill.show(
        console,
        question.name,
        question.shared,
        items,
        [variant.key for variant in made.baselines.values()],
        question.asked.blocks,
        sum(made.seconds.values()) / made.jobs / 60,
        made.jobs,
        written,
        question.notes,
        made.mismatch,
    )


def refuse_small_disk(question: Question, written: float) -> None:
    """A study that would fill the disk."""
    free = free_bytes(Path(question.outputs))
    if written > free:
        raise Refused(
            f"outputs={question.outputs} has {free / 1e6:.0f} MB free, and this study writes about "
            f"{written / 1e6:.0f} MB; free some, or set outputs=<folder>"
        )


def asked(made: Plan) -> dict[str, Any]:
    """What study.json holds."""
    question = made.question
    variants = made.variants
    return {
        **asdict(question.asked),
        "kind": question.asked.kind,
        "study": question.name,
        "asks": asks(question.axes, question.base, question.asked),
        "command": trained(command(), question.name),
        "cwd": str(Path.cwd()),
        "seeds": question.asked.blocks,
        "axes": question.axes,
        "versus": question.study.versus(),
        "base": question.shared,
        "baseline": next(iter(question.baselines.values())).name,
        "arms": {variant.key: variant.overrides for variant in variants},
        "settled": {v.key: [[*_told(v, one), one] for one in v.told] for v in variants},
        "cells": [*made.cells],
        "seconds": made.seconds,
        "jobs": made.jobs,
        "counts": made.counts,
        "mismatch": made.mismatch,
        "notes": question.notes,
    }


def command() -> list[str]:
    """What was typed."""
    return ["python", *(word for word in sys.argv if word not in ("-m", "--multirun"))]


def trained(words: list[str], name: str) -> list[str]:
    """A command for its runs alone, where a study that trains nothing asked for them."""
    if not any(word.startswith("study.follow_up=") for word in words):
        return words
    return [*(word for word in words if not word.startswith(("study=", "study.", "name="))), f"name={name}"]


def _told(variant: Variant, why: str) -> tuple[str, Any]:
    """The knob and value that a settled variant was told."""
    knob = why.partition("=")[0]
    node: Any = variant.recipe.config
    for part in knob.split("."):
        node = node[part]
    return knob, node
