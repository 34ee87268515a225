"""Run folders as the plain `Run`s that are compared."""

import re
from pathlib import Path
from typing import Any

from gptlab.config.recipe import COSMETIC_KEYS, Recipe, flatten
from gptlab.errors import Refused
from gptlab.runs.record import read_json, read_recipe
from gptlab.runs.study_folder import CellState, StudyFolder
from gptlab.stats.labels import ArmValues, label_arm
from gptlab.stats.results import Run

MAX_NAMED_KEYS = 3
"""Keys that name an arm; arms that differ in more are named by their folders."""
FACTS = ("device", "torch", "code", "data_sha256", "precision", "hash")
IGNORED = (*COSMETIC_KEYS, "seed", "log_every", "save_every")
"""Keys of a config that make no other arm."""


def collect_study_runs(folder: Path) -> list[Run]:
    """Return the cells that a study asked for last, and what became of them."""
    study_folder = StudyFolder(folder)
    states = study_folder.read_states()
    return [
        _make_run(study_folder, cell, states.get(key, CellState())) for key, cell in study_folder.read_cells().items()
    ]


def _make_run(study_folder: StudyFolder, cell: dict[str, Any], state: CellState) -> Run:
    """Return a cell of a study with what became of it."""
    summary = _read_summary(study_folder.pool / state.run) if state.run else {}
    # running, stopped and retried are not over: to a comparison they are missing
    status: Any = state.status if state.status in ("finished", "diverged", "failed") else "missing"
    reason = state.reason
    # the ledger says that it is over, but its folder was removed or copied in part
    if status in ("finished", "diverged") and not summary:
        status, reason = "missing", f"{state.run}/summary.json is not there, or not whole"
    return Run(
        arm=cell["arm"],
        seed=cell["seed"],
        status=status,
        values=extract_numbers(summary),
        size=cell["size"],
        role=cell["role"],
        budget=cell["budget"],
        lr=cell["lr"],
        folder=state.run,
        reason=reason,
        log=state.log,
        other_code=state.other_code,
        facts=_extract_facts(summary, cell["config"]),
    )


def collect_lone_runs(folders: list[Path]) -> tuple[list[Run], dict[str, ArmValues]]:
    """Return runs that no study made, and their arms by label, in order.

    An arm is what they differ in, the seed aside; it is named by its folder where that would be much.
    """
    recipes = {}
    for folder in folders:
        if not (folder / "run.json").exists():
            raise Refused(f"{folder} is neither a study nor a run: it holds no study.json and no run.json")
        recipes[folder] = read_recipe(folder)
    arms = _name_arms(recipes)
    runs = []
    for folder, recipe in recipes.items():
        summary = _read_summary(folder)
        status: Any = summary.get("status", "missing")
        runs.append(
            Run(
                arm=label_arm(arms[folder]),
                seed=recipe.config["seed"],
                status=status if status in ("finished", "diverged") else "missing",
                values=extract_numbers(summary),
                folder=folder.name,
                reason=summary.get("reason", "" if summary else "it is not over"),
                log=str(folder / "log.txt"),
                facts=_extract_facts(summary, recipe.config),
            )
        )
    return runs, {label_arm(values): values for values in sorted(arms.values(), key=label_arm)}


def _name_arms(recipes: dict[Path, Recipe]) -> dict[Path, ArmValues]:
    """Return each run's arm, by its folder."""
    leaves = {folder: {**flatten(recipe.config), **_named_choices(recipe)} for folder, recipe in recipes.items()}
    keys: set[str] = set()
    for config in leaves.values():
        keys |= {*config}
    differing = []
    for key in sorted(keys):
        values = {repr(config.get(key)) for config in leaves.values()}
        if len(values) > 1 and _makes_an_arm(key):
            differing.append(key)
    # the choice of a slot stands for all keys below it
    slots = set(differing) & {slot for recipe in recipes.values() for slot in recipe.choices}
    named = [key for key in differing if key in slots or key.split(".")[0] not in slots]
    by_keys = {}
    for folder, config in leaves.items():
        by_keys[folder] = tuple((key, str(config.get(key))) for key in named)
    # a run's folder ends in its seed, its hash and, if that was taken, a number
    by_folder = {folder: re.sub(r"-s\d+-[0-9a-f]{8}(-\d+)?$", "", folder.name) for folder in recipes}
    # folders name arms only where each arm has one folder name, and each folder name one arm
    arms, names = {*by_keys.values()}, {*by_folder.values()}
    pairs = {*zip(by_keys.values(), by_folder.values(), strict=True)}
    if len(named) <= MAX_NAMED_KEYS or len(pairs) > len(arms) or len(names) < len(arms):
        return by_keys
    return {folder: (("", name),) for folder, name in by_folder.items()}


def _named_choices(recipe: Recipe) -> dict[str, Any]:
    return {slot: choice for slot, choice in recipe.choices.items() if isinstance(choice, str)}


def _makes_an_arm(key: str) -> bool:
    return not key.endswith(("._target_", "._partial_")) and key.split(".")[0] not in IGNORED


def extract_numbers(summary: dict[str, Any]) -> dict[str, float]:
    """Return the numbers of a summary that can be compared."""
    return {key: float(value) for key, value in summary.items() if isinstance(value, int | float) and key != "seed"}


def _extract_facts(summary: dict[str, Any], config: dict[str, Any]) -> dict[str, str]:
    """Return the facts of a run that arms should share, or be known to differ in."""
    facts = {key: str(summary[key]) for key in FACTS if key in summary}
    conditions = {key: repr(value) for key, value in flatten(config).items() if key in CONDITIONS}
    # by content where it is stamped: a tokenizer's path may differ and its tokens not
    tokenizer = {key: value for key, value in config.get("tokenizer", {}).items() if key != "path"}
    stamp = (config.get("content") or {}).get("tokenizer", config.get("tokenizer", {}).get("path"))
    tasks = {key: value for key, value in (config.get("content") or {}).items() if key.startswith("metric.")}
    judged_by = {"tasks": repr(sorted(tasks.items()))} if tasks else {}
    return facts | conditions | judged_by | {"tokenizer": repr((tokenizer, stamp))}


CONDITIONS = (
    "data.validation",
    "evaluation.part",
    "evaluation.final",
    "batch_size",
    "model.context",
    "steps",
    "optimizer._target_",
    "optimizer.lr",
)
"""Keys of a config under which arms learn and are judged."""


def _read_summary(folder: Path) -> dict[str, Any]:
    """Return a run's summary; empty where it is not there or not whole, since that run is not over.

    One that may not be read raises OSError: it may well be over, and a comparison without it would be another one.
    """
    try:
        return read_json(folder / "summary.json")
    except (FileNotFoundError, NotADirectoryError, Refused):
        return {}
