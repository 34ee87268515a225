"""Run folders to the plain runs that are compared."""

import re
from pathlib import Path
from typing import Any

from gptlab.config.recipe import flatten
from gptlab.errors import Refused
from gptlab.runs.record import read_json, read_recipe
from gptlab.runs.study_folder import CellState, StudyFolder
from gptlab.stats.results import Run

FEW = 3
"""Keys that name an arm."""
FACTS = ("device", "torch", "code", "data_sha256", "precision", "hash")


def study(folder: Path) -> list[Run]:
    """The cells that a study asked for last, and what became of them."""
    study_folder = StudyFolder(folder)
    states = study_folder.read_states()
    return [_cell(study_folder, cell, states.get(key, CellState())) for key, cell in study_folder.read_cells().items()]


def _cell(study_folder: StudyFolder, cell: dict[str, Any], state: CellState) -> Run:
    summary = _read(study_folder.pool / state.run / "summary.json") if state.run else {}
    status: Any = state.status if state.status in ("finished", "diverged", "failed") else "missing"
    reason = state.reason
    if status in ("finished", "diverged") and not summary:
        status, reason = "missing", f"{state.run}/summary.json is not there, or not whole"
    return Run(
        arm=cell["arm"],
        seed=cell["seed"],
        status=status,
        values=numbers(summary),
        size=cell["size"],
        role=cell["role"],
        budget=cell["budget"],
        lr=cell["lr"],
        folder=state.run,
        reason=reason,
        log=state.log,
        other_code=state.other_code,
        facts={key: str(summary[key]) for key in FACTS if key in summary},
    )


def lone(folders: list[Path]) -> list[Run]:
    """Runs that no study made: an arm is what they differ in, the seed aside; by its folder's name if that is much."""
    recipes = {}
    for folder in folders:
        if not (folder / "run.json").exists():
            raise Refused(f"{folder} is neither a study nor a run: it holds no study.json and no run.json")
        recipes[folder] = read_recipe(folder)
    leaves = {folder: {**flatten(recipe.config), **_choices(recipe.choices)} for folder, recipe in recipes.items()}
    keys = {key for one in leaves.values() for key in one}
    differ = [key for key in sorted(keys) if len({repr(one.get(key)) for one in leaves.values()}) > 1 and _counts(key)]
    slots = {key for key in differ if any(key in recipe.choices for recipe in recipes.values())}
    named = [key for key in differ if key in slots or key.split(".")[0] not in slots]
    arms = {folder: tuple(f"{key}={one.get(key)}" for key in named) for folder, one in leaves.items()}
    short = {folder: re.sub(r"-s\d+-[0-9a-f]{8}(-\d+)?$", "", folder.name) for folder in folders}
    plain = len(named) <= FEW or len({*zip(arms.values(), short.values(), strict=True)}) > len({*arms.values()})
    plain = plain or len({*short.values()}) < len({*arms.values()})
    found = []
    for folder, recipe in recipes.items():
        summary = _read(folder / "summary.json")
        status: Any = summary.get("status", "missing")
        arm = (" ".join(arms[folder]) or "default") if plain else short[folder]
        found.append(
            Run(
                arm,
                recipe.config["seed"],
                status if status in ("finished", "diverged") else "missing",
                numbers(summary),
                folder=folder.name,
                reason=summary.get("reason", "" if summary else "it is not over"),
                log=str(folder / "log.txt"),
                facts={key: str(summary[key]) for key in FACTS if key in summary},
            )
        )
    return found


def _choices(choices: dict[str, Any]) -> dict[str, Any]:
    return {slot: choice for slot, choice in choices.items() if isinstance(choice, str)}


def _counts(key: str) -> bool:
    if key.endswith(("._target_", "._partial_")):
        return False
    return key.split(".")[0] not in ("seed", "name", "outputs", "tracking", "resume", "log_every", "save_every")


def numbers(summary: dict[str, Any]) -> dict[str, float]:
    """What a summary holds that can be compared."""
    return {key: float(value) for key, value in summary.items() if isinstance(value, int | float) and key != "seed"}


def _read(path: Path) -> dict[str, Any]:
    """A summary; one that is not there or not whole is of no run that is over."""
    try:
        return read_json(path)
    except (OSError, Refused):
        return {}
