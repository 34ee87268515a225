"""A word on stderr, and a key for programs, where a command takes runs or studies that are not over."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gptlab.console.json_answer import add_to_answer
from gptlab.console.units import relative_to_cwd
from gptlab.errors import Refused, escape_controls
from gptlab.runs.record import read_json
from gptlab.runs.study_folder import TERMINAL_STATES, StudyFolder
from gptlab.runs.unfinished import find_unfinished


def announce_weights(run: Path, which: str = "last") -> None:
    """Warn on stderr if a run's weights are not its final ones; JSON answers say it either way.

    which  the checkpoint that is read
    """
    if not (run / "run.json").is_file():  # refused by whoever reads it
        return
    unfinished = find_unfinished(run)
    if unfinished is None:
        end = describe_end(run, which)
        _announce([f"{run} {end}"] if end else [], [])
    else:
        step = read_weights_step(run, which)
        _announce([unfinished.describe(step)], [unfinished.to_dict(step)])


def announce_unfinished(folders: Iterable[Path]) -> None:
    """Warn on stderr of each run and study that is not over; JSON answers say it either way."""
    lines, facts = [], []
    for folder in dict.fromkeys(folders):
        if (folder / "study.json").exists():
            if (study := find_unfinished_study(folder)) is not None:
                where = f"{study['done']} of {study['cells']} cells are done"
                lines.append(f"{folder} is unfinished: {where}; go on with: {study['resume']}")
                facts.append(study)
        elif (folder / "run.json").is_file() and (unfinished := find_unfinished(folder)) is not None:
            lines.append(unfinished.describe())
            facts.append(unfinished.to_dict())
    _announce(lines, facts)


def _announce(lines: list[str], facts: list[dict[str, Any]]) -> None:
    add_to_answer(unfinished=facts)
    for line in lines:
        print(escape_controls(line), file=sys.stderr)


def find_unfinished_study(folder: Path) -> dict[str, Any] | None:
    """Return how many cells of a study are done, and its command; None where all are."""
    from gptlab.report.text.view import build_command  # late: it takes scipy

    study_folder = StudyFolder(folder)
    plan, states = study_folder.plan, study_folder.read_states()
    done = sum(key in states and states[key].status in TERMINAL_STATES for key in plan.cells)
    if done == len(plan.cells):
        return None
    path = str(relative_to_cwd(folder))
    return {"folder": path, "done": done, "cells": len(plan.cells), "resume": build_command(plan)}


def describe_end(run: Path, which: str = "last") -> str:
    """Return a clause, to follow a run's name, on why its weights are not final; "" for a finished run."""
    unfinished = find_unfinished(run)
    step = read_weights_step(run, which)
    weights = "" if step is None else f": these are its weights of step {step:,}"
    if unfinished is not None:
        return f"is unfinished{weights} of {unfinished.steps:,}" if weights else "is unfinished"
    try:
        summary = read_json(run / "summary.json")
    except (OSError, Refused):  # weights can be read without it
        return ""
    if summary.get("unfinished"):
        return f"was packed from an unfinished run: {summary['unfinished']}"
    return f"diverged at {summary.get('reason')}{weights}" if summary.get("status") == "diverged" else ""


def read_weights_step(run: Path, which: str = "last") -> int | None:
    """Return the step of a checkpoint; None where it is not there, cannot be read or does not say."""
    from gptlab.runs.checkpoint import load_checkpoint

    try:
        step = load_checkpoint(run / "checkpoints" / f"{which}.ckpt", mapped=True).get("global_step")
    except Exception:  # a torn file may fail in any way; whoever needs the weights says so
        return None
    return step if isinstance(step, int) else None
