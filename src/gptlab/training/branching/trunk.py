"""One trunk, many budgets: runs that differ in their steps alone share what comes before their cooldowns.

Under schedule=wsd the rate rises for so many steps, and then stays at its peak until the cooldown begins. Batches and
dropout are functions of the seed and the step, so a long run and a short one of the same recipe are the same run, bit
for bit, up to the step at which the short one's cooldown begins. There the long one, the trunk, saves a checkpoint, and
the short one, a branch, goes on from it in a folder of its own, as a resumed run would (Hägele 2024, arXiv:2405.18392).

RUN/branches/step-<n>.ckpt       the whole state after n steps
RUN/branches/step-<n>-best.ckpt  the best weights by then, if there was an evaluation
"""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptlab.config.factory import factory
from gptlab.config.recipe import COSMETIC_KEYS, Recipe, flatten, set_values
from gptlab.errors import Refused
from gptlab.runs.fingerprint import fingerprint_recipe
from gptlab.runs.record import RunFolder, read_recipe
from gptlab.runs.resume import describe_difference

if TYPE_CHECKING:
    from gptlab.training.schedule import Schedule

FOLDER = "branches"
"""Where a trunk has its branch points, in its run folder."""


def build_schedule(recipe: Recipe) -> "Schedule":
    """Return the schedule of a recipe, told how many steps it has."""
    make = factory(recipe.config["schedule"], "schedule")
    schedule: Schedule = make()
    make.call(schedule.plan_steps, recipe.config["steps"])
    return schedule


def explain_no_trunk(recipe: Recipe) -> str:
    """Return why no budgets can share a trunk under this recipe, and what to say instead; "" where they can."""
    schedule = build_schedule(recipe)
    if schedule.trunk_warmup is None:
        return f"schedule={recipe.choices.get('schedule')} has no stable part; say schedule=wsd"
    if count_trunk_steps(recipe) <= schedule.trunk_warmup:
        return f"its {recipe.config['steps']} steps have no stable part between warm-up and cooldown; give more steps"
    if (minutes := recipe.config["max_minutes"]) is not None:
        return f"max_minutes={minutes:g} ends a run by the clock, not by its steps; leave it out"
    for key, value in flatten(recipe.config.get("change") or {}).items():
        # pruning from null on begins at half of the steps: a short run is then no part of a long one
        if value is None:
            return f"change.{key}=null may follow from the steps; give a value"
    return ""


def count_trunk_steps(recipe: Recipe) -> int:
    """Return the steps of a run before its cooldown, in which the rate is that of any longer run."""
    schedule, steps = build_schedule(recipe), recipe.config["steps"]
    # asked of the schedule itself, at the very progress of each step, so that no rounding can come between
    stable = range(schedule.trunk_warmup or 0, steps)
    return next((step for step in stable if schedule((step + 1) / (steps + 1)) != 1.0), steps)


def hash_trunk(recipe: Recipe) -> str:
    """Return a hash that is equal for recipes that share a trunk: all but the steps and the cooldown. "" for none."""
    if explain_no_trunk(recipe):
        return ""
    node = recipe.config["schedule"]
    # what is left out, the shape and length of the cooldown, begins after the trunk
    trunk = {"_target_": node["_target_"], "warmup_steps": build_schedule(recipe).trunk_warmup}
    return replace(recipe, config={**recipe.config, "steps": 0, "schedule": trunk}).hash


def set_budget(recipe: Recipe, steps: int) -> Recipe:
    """Return a recipe with other steps; where budgets can share a trunk, with as many of warm-up as it had."""
    if explain_no_trunk(recipe):
        return set_values(recipe, steps=steps)
    return set_values(recipe, steps=steps, schedule__warmup_steps=build_schedule(recipe).trunk_warmup)


def list_branch_points(recipe: Recipe) -> dict[int, int]:
    """Return the steps after which a run saves for its branches, and the steps of each branch.

    Raises Refused for a branch that leaves the trunk before it is stable.
    """
    steps, points = recipe.config["steps"], {}
    for part in recipe.settings.branches:
        branch = set_budget(recipe, max(1, round(part * steps)))
        try:
            reason = explain_no_trunk(branch)
        except Refused as refused:
            reason = str(refused)
        if reason:
            raise Refused(f"branches={recipe.settings.branches}: {part:g} of {steps} steps is no branch: {reason}")
        points[count_trunk_steps(branch)] = branch.config["steps"]
    return points


def check_branches(recipe: Recipe) -> list[str]:
    """Return the problems of a recipe's `branches` and `trunk`."""
    settings = recipe.settings
    written = f"branches={settings.branches}"
    if any(not 0 < part < 1 for part in settings.branches):
        several = "python ablate.py schedule=wsd budget=[0.5,2] seeds=1 runs a whole family"
        return [f"{written} are no parts of this run's {settings.steps} steps, in (0, 1); {several}"]
    try:
        if settings.branches and (reason := explain_no_trunk(recipe)):
            return [f"{written}: {reason}"]
        list_branch_points(recipe)
        # a resumed branch has its checkpoints, and its trunk may be gone
        if settings.trunk is not None and settings.resume is None:
            find_branch_point(recipe, Path(settings.trunk))
    except Refused as refused:
        return [str(refused)]
    return []


def find_branch_point(recipe: Recipe, trunk: Path) -> int:
    """Return the last step that a trunk has saved before the cooldown of a recipe; refuse one that does not fit."""
    if not (trunk / "run.json").exists():
        raise Refused(f"trunk={trunk} is no run folder: it holds no run.json; see `python -m gptlab runs`")
    if reason := explain_no_trunk(recipe):
        raise Refused(f"trunk={trunk}: {reason}")
    other = read_recipe(trunk)
    if hash_trunk(other) != hash_trunk(recipe):
        raise Refused(f"trunk={trunk} is a run of another recipe: {_describe_differences(recipe, other)}")
    if RunFolder(trunk).read_facts().get("code") != fingerprint_recipe(recipe):
        raise Refused(f"trunk={trunk} was trained by other code; leave trunk out")
    # later points are part of the cooldown of this recipe
    last, saved = count_trunk_steps(recipe), list_saved_points(trunk)
    if not (fitting := [step for step in saved if step <= last]):
        there = ", ".join(map(str, saved)) or "none"
        raise Refused(
            f"trunk={trunk} has branch points at steps {there}, and the cooldown of steps={recipe.config['steps']} "
            f"begins after {last}; leave trunk out, or train a trunk with branches=[...]"
        )
    return max(fitting)


def _describe_differences(recipe: Recipe, other: Recipe) -> str:
    """Return the first keys in which two recipes differ, beside those that a trunk leaves open."""
    warmup, other_warmup = build_schedule(recipe).trunk_warmup, build_schedule(other).trunk_warmup
    if warmup != other_warmup:
        return f"schedule.warmup_steps ({other_warmup} there, {warmup} here)"
    asked, stored = flatten(recipe.config), flatten(other.config)
    keys = [key for key in {**stored, **asked} if asked.get(key) != stored.get(key)]
    differing = [key for key in keys if key.split(".")[0] not in (*COSMETIC_KEYS, "steps", "schedule")]
    return ", ".join(describe_difference(key, stored, asked) for key in differing[:4])


def list_saved_points(trunk: Path) -> list[int]:
    """Return the steps at which a run has saved for branches, ascending."""
    paths = [path for path in (trunk / FOLDER).glob("step-*.ckpt") if not path.stem.endswith("-best")]
    return sorted(int(path.stem.removeprefix("step-")) for path in paths)


def start_branch(folder: RunFolder, trunk: Path, step: int) -> None:
    """Copy the rows, the best weights and the checkpoint of a trunk after `step` steps into a new run.

    From here on it is a run that was stopped after that step. The checkpoint comes last: a run that is killed before
    has none, and trains from its own start.
    """
    from gptlab.runs.checkpoint import load_checkpoint
    from gptlab.training.run_callbacks.checkpoints import STATE_KEY

    facts, point = RunFolder(trunk).read_facts(), trunk / FOLDER / f"step-{step}.ckpt"
    # the last bits depend on both, as those of a resumed run
    settled = {key: facts[key] for key in ("threads", "compiled") if key in facts}
    folder.update_facts(**settled, trunk=trunk.name, trunk_step=step)
    for name in ("metrics.jsonl", "samples.jsonl"):
        if (trunk / name).exists():
            shutil.copyfile(trunk / name, folder.path / name)
    state: dict[str, Any] = load_checkpoint(point, mapped=True)["callbacks"][STATE_KEY]
    folder.rewind(state["rows"], state["samples"])  # the trunk has gone on since
    best = point.with_name(f"step-{step}-best.ckpt")
    if best.exists():
        link_or_copy(best, folder.checkpoints / "best.ckpt")
    link_or_copy(point, folder.checkpoints / "last.ckpt")


def link_or_copy(source: Path, target: Path) -> None:
    """Link or copy a checkpoint to another path, whole or not at all; a file that stood there is replaced.

    A link costs no disk, and checkpoints are only ever replaced, never written in place.
    """
    part = target.with_name(f".{target.stem}.part")
    part.unlink(missing_ok=True)
    try:
        os.link(source, part)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(source, part)
    # atomic: a reader finds the old checkpoint or the new one
    part.replace(target)


def remove_branch_point(trunk: Path, step: int) -> None:
    """Remove what a trunk has saved after a step."""
    for path in (trunk / FOLDER).glob(f"step-{step}*.ckpt"):
        if path.stem in (f"step-{step}", f"step-{step}-best"):
            path.unlink(missing_ok=True)
