"""A study whose arms are measured together: a cell a block, in this process, one after another. No run is made.

rows/<block>.json    what a block measured, with the code that did; a block that is there is not measured again
"""

import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from gptlab.ablation import plan as planning
from gptlab.ablation.cells import asks
from gptlab.ablation.question import Question
from gptlab.build import build
from gptlab.config.recipe import altered, flat
from gptlab.errors import Ended, Refused
from gptlab.report.measurement_folder import _path, again
from gptlab.runs.fingerprint import fingerprint
from gptlab.runs.record import dump, read, write
from gptlab.runs.study_folder import Ledger, locked
from gptlab.study import Study


def measure(question: Question, console: Console) -> None:
    """Measures the blocks that are missing, then compares."""
    study, ledger = question.study, planning.ledger(question)
    arms = [variant.key for variant in question.variants]
    keys = {seed: f"{question.name}-b{seed}" for seed in question.asked.blocks}
    code = _code(question)
    study.check({variant.key: variant.recipe for variant in question.variants})
    done = {seed for seed, key in keys.items() if _measured(ledger, key, code, question.asked.reuse)}
    console.print(f"{question.name}: {len(arms)} arms together, {len(keys)} blocks, {len(done)} of them done")
    for note in question.notes:
        console.print(f"  {note}", markup=False)
    if question.asked.dry_run:
        return
    ledger.ask(_asked(question, keys), {key: _cell(seed) for seed, key in keys.items()})
    (ledger.folder / "rows").mkdir(exist_ok=True)
    bad = 0
    try:
        for seed in [one for one in keys if one not in done]:
            bad += not _block(question, study, ledger, seed, keys[seed], code, console)
    except KeyboardInterrupt as stopped:
        there = sum(_measured(ledger, key, code, "any_code") for key in keys.values())
        raise Ended(f"stopped: {there} of {len(keys)} blocks done; the same command goes on", 130) from stopped
    again(ledger.folder, console)
    if bad:
        raise Ended(f"{bad} of {len(keys)} blocks failed; the same command tries them again")


def _block(question: Question, study: Study, ledger: Ledger, seed: int, key: str, code: str, console: Console) -> bool:
    """Measures one block; whether that was done. What goes wrong is an event with a log, and the others go on."""
    with locked(ledger.lock(key)) as owner:
        if owner is not None:
            raise Refused(f"{question.name}: {owner} measures it; two at once would disturb each other's clocks")
        ledger.note(key, "running")
        began = time.perf_counter()
        try:
            arms = {variant.key: altered(variant.recipe, seed=seed) for variant in question.variants}
            with console.status(f"[dim]measuring block {seed}[/]"):
                rows = study(arms, seed, build, ledger.folder)
        except Refused:
            ledger.note(key, "stopped")
            raise
        except Exception as error:
            log = ledger.folder / "logs" / f"{key}.txt"
            log.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
            ledger.note(key, "failed", reason=f"{type(error).__name__}: {error}".splitlines()[0], log=str(log))
            console.print(f"  block {seed} failed: {error}; see {log}", markup=False, soft_wrap=True)
            return False
        seconds = time.perf_counter() - began
        write(_path(ledger, key), dump({"code": code, "seconds": seconds, "rows": [row._asdict() for row in rows]}))
        ledger.note(key, "finished")
        return True


def followed(fixed: dict[str, str], name: str, study: str) -> dict[str, str]:
    """The fixed words of a command line, for the study that follows one of that name."""
    kept = {key: word for key, word in fixed.items() if not key.startswith("study.")}
    return {**kept, "study": f"study={study}", "name": f"name={name}-{study}"}


def _measured(ledger: Ledger, key: str, code: str, reuse: str) -> bool:
    path = _path(ledger, key)
    return path.exists() and (reuse == "any_code" or read(path)["code"] == code)


def _code(question: Question) -> str:
    """Of the study and of all parts of its arms."""
    nodes = [question.asked.study, *(variant.recipe.config for variant in question.variants)]
    targets = {str(value) for node in nodes for key, value in flat(node).items() if key.endswith("_target_")}
    return fingerprint(sorted(target.rpartition(".")[0] for target in targets))


def _cell(seed: int) -> dict[str, Any]:
    return {"label": f"block {seed}", "seed": seed, "jobs": 1}


def _asked(question: Question, keys: dict[int, str]) -> dict[str, Any]:
    """What study.json holds."""
    asked = question.asked
    return {
        **asdict(asked),
        "kind": asked.kind,
        "knobs": asked.study,
        "study": question.name,
        "asks": asks(question.axes, question.base, asked),
        "command": planning.command(),
        "cwd": str(Path.cwd()),
        "axes": question.axes,
        "base": question.shared,
        "arms": {variant.key: variant.overrides for variant in question.variants},
        "cells": [*keys.values()],
        "seconds": {},
        "jobs": 1,
        "notes": question.notes,
    }
