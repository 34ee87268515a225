"""Cells that share a trunk: of those that differ in their steps alone the longest is the trunk of the others.

What a branch computes is what it would compute alone, bit for bit (training/branching/trunk.py), so this decides only
what is computed twice: a branch that finds no trunk, since that one is a run from elsewhere or failed, trains alone.
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gptlab.errors import Refused
from gptlab.runs.record import read_json
from gptlab.runs.study_folder import TERMINAL_STATES, CellState, StudyFolder, is_held

if TYPE_CHECKING:
    from gptlab.ablation.cells import Cell
    from gptlab.ablation.plan import Plan
    from gptlab.config.recipe import Recipe

GRACE_S = 5.0
"""Seconds in which a trunk that was launched together with its branch must have begun."""


def set_budget(recipe: "Recipe", multiple: float) -> "Recipe":
    """Return a recipe at a multiple of its steps; with the same steps of warm-up, where budgets can share a trunk."""
    from gptlab.training.branching import trunk

    steps = recipe.config["steps"]
    budget = trunk.set_budget(recipe, max(1, round(steps * multiple)))
    try:
        trunk.build_schedule(budget)
    except Refused as refused:
        raise Refused(f"budget={multiple:g} of {steps} steps is no branch of theirs: {refused}") from refused
    return budget


def link_trunks(cells: "dict[str, Cell]") -> "dict[str, Cell]":
    """Return the cells with their trunks named; in each seed trunks come first, and branches last.

    Between them stand the other arms, so that a trunk has gone far enough when its branches begin.
    """
    from gptlab.training.branching.trunk import count_trunk_steps, hash_trunk

    families: dict[str, list[Cell]] = {}
    for cell in cells.values():
        # the A/A control must be a second training from its first step on
        if cell.role != "twin" and (trunk := hash_trunk(cell.recipe)):
            families.setdefault(trunk, []).append(cell)
    linked, trunks = dict(cells), set()
    for family in families.values():
        longest = max(family, key=lambda cell: cell.recipe.config["steps"])
        steps = longest.recipe.config["steps"]
        shorter = [cell for cell in family if count_trunk_steps(cell.recipe) < count_trunk_steps(longest.recipe)]
        if shorter:
            parts = sorted({cell.recipe.config["steps"] / steps for cell in shorter})
            config = {**longest.recipe.config, "branches": parts}
            linked[longest.key] = replace(longest, recipe=replace(longest.recipe, config=config), trunk="")
            trunks.add(longest.key)
        linked |= {cell.key: replace(cell, trunk=longest.key) for cell in shorter}
    if not trunks:
        return linked
    seeds = list(dict.fromkeys(cell.recipe.config["seed"] for cell in linked.values()))

    def rank(key: str) -> tuple[int, int]:
        place = 0 if key in trunks else 2 if linked[key].trunk else 1
        return seeds.index(linked[key].recipe.config["seed"]), place

    # stable: cells of one rank stay in the order of the plan
    return {key: linked[key] for key in sorted(linked, key=rank)}


def count_shared_steps(plan: "Plan", key: str) -> int:
    """Return the steps of a cell that its trunk trains, and it need not; 0 for one that trains alone."""
    from gptlab.training.branching.trunk import count_trunk_steps, list_saved_points

    cell = plan.cells[key]
    if not cell.trunk or cell.trunk not in plan.cells:
        return 0
    steps, finished = count_trunk_steps(cell.recipe), plan.finished_runs.get(cell.trunk)
    # a trunk that ended before has only the points that it was asked for then
    return steps if finished is None else max((s for s in list_saved_points(finished) if s <= steps), default=0)


def describe_trunks(plan: "Plan") -> list[str]:
    """Return the bill's line on what shared trunks save, if any cell has one."""
    shared = {key: steps for key in plan.to_run() if (steps := count_shared_steps(plan, key))}
    if not shared:
        return []
    trunks = {plan.cells[key].trunk for key in shared}
    alone = sum(plan.cells[key].recipe.config["steps"] for key in {*shared, *trunks})
    own = alone - sum(shared.values())
    lengths = sorted({plan.cells[key].recipe.config["steps"] for key in trunks})
    written = ", ".join(f"{steps:,}" for steps in lengths)
    return [
        f"{len(shared)} cells branch off {len(trunks)} trunks of {written} steps: "
        f"{own:,} steps for {alone:,} ({1 - own / alone:.0%} less), the same numbers"
    ]


def wait_for_trunk(study_folder: StudyFolder, key: str, recipe: "Recipe") -> Path | None:
    """Return the run that a cell of this recipe can branch off, once it has come so far; None if it never will."""
    deadline = time.monotonic() + GRACE_S
    while (folder := find_trunk(study_folder, key, recipe, whole=True)) is None:
        if not is_held(study_folder.lock_path(key)):
            status = study_folder.read_states().get(key, CellState()).status
            if status in (*TERMINAL_STATES, "failed") or time.monotonic() > deadline:
                return find_trunk(study_folder, key, recipe, whole=False)
        time.sleep(0.2)
    return folder


def find_trunk(study_folder: StudyFolder, key: str, recipe: "Recipe", *, whole: bool) -> Path | None:
    """Return the run of a trunk's cell that a recipe can branch off, None where none has come so far.

    whole  only one that has saved just where the cooldown begins: an earlier point leaves the steps between to train
    """
    from gptlab.training.branching.trunk import count_trunk_steps, find_branch_point

    for folder in study_folder.own_runs(key):
        try:
            step = find_branch_point(recipe, folder)
        except (Refused, OSError):  # not begun, of other code, or without a point for this budget
            continue
        if not whole or step == count_trunk_steps(recipe):
            return folder
    return None


def drop_used_point(branch: Path, trunk: Path) -> None:
    """Remove the checkpoint of a trunk that a finished branch began from: each serves one cell."""
    from gptlab.training.branching.trunk import remove_branch_point

    remove_branch_point(trunk, read_json(branch / "run.json")["trunk_step"])
