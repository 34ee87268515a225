"""A registered plan: what a study asks and how it is judged, frozen in registered.json before its first run.

The file holds the plan, the time, hashes of code and data, and a digest of itself, so that a change of it shows. A
study kept to its plan if all that was frozen is as it was, every look was a planned one, and the runs are of that code
and data.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gptlab.errors import Refused
from gptlab.runs.record import read_json, to_json, utc_now, write_atomically
from gptlab.stats.results import Run
from gptlab.stats.study_plan import StudyPlan

FILE = "registered.json"
FROZEN = (
    *("arms", "baseline", "design", "trials", "match", "tune", "lr_grid", "budget"),  # budgets set the margin
    *("looks", "spending", "alpha", "until", "confirm", "variance", "decides", "delta", "pairs", "campaign"),
)
"""Keys of study.json that a registered plan holds, and that no later command may change."""
LONGEST_SHOWN = 120
"""Characters of values that a refusal quotes; those of arms are whole lists of overrides."""
SHOWN = 12
"""Digits of a digest that are printed."""


def write_registration(folder: Path, frozen: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """Write a study's registered plan, and return it.

    frozen  the values of `FROZEN`
    facts   question, metric, margin, and the hashes `code` (by arm) and `data`
    """
    document = {"at": utc_now(), **facts, "plan": frozen}
    document["digest"] = _compute_digest(document)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / FILE, to_json(document, indent=2) + "\n")
    return document


def read_registration(folder: Path) -> dict[str, Any] | None:
    """Return a study's registered plan; None where none was registered."""
    if not (folder / FILE).exists():
        return None
    registered = read_json(folder / FILE)
    plan = registered.get("plan")
    if (
        not isinstance(plan, dict)
        or not isinstance(plan.get("arms", {}), dict)
        or not {"at", "digest"} <= {*registered}
    ):
        raise Refused(f"{folder / FILE} is no registered plan; put a copy of it back, or give another name=")
    return registered


def _compute_digest(document: dict[str, Any]) -> str:
    # the digest is of all else that the file holds
    content = {key: value for key, value in document.items() if key != "digest"}
    return hashlib.sha256(to_json(content).encode()).hexdigest()


def _list_changes(registered: dict[str, Any], frozen: dict[str, Any]) -> list[str]:
    """Return the frozen keys whose values are no longer those that were registered."""
    # a plan of an older gptlab froze fewer keys
    before = registered.get("plan", {})
    return [key for key in FROZEN if key in before and to_json(before[key]) != to_json(frozen.get(key))]


def refuse_changed_plan(folder: Path, frozen: dict[str, Any]) -> None:
    """Refuse a command that asks otherwise than the plan registered in a study's folder, and a plan that was edited."""
    registered = read_registration(folder)
    if registered is None:
        return
    if registered.get("digest") != _compute_digest(registered):
        raise Refused(f"{folder / FILE} was changed after it was registered; give another name= and register again")
    for key in _list_changes(registered, frozen):
        now, before = (to_json(values.get(key)) for values in (frozen, registered["plan"]))
        if len(now) + len(before) > LONGEST_SHOWN:
            now, before = "...", "..."
        raise Refused(
            f"{key}={now}: registered at {registered['at']} as {key}={before}, and a registered plan stays; "
            f"ask as it was registered, or give another name="
        )


def summarize_registration(registered: dict[str, Any]) -> str:
    """Return when a plan was registered, and the digest by which one knows it."""
    return f"registered at {registered['at']} as {registered['digest'][:SHOWN]}"


def describe_adherence(folder: Path, plan: StudyPlan, runs: Sequence[Run]) -> list[str]:
    """Return a sentence on whether a study kept to its registered plan; none where none was registered."""
    registered = read_registration(folder)
    if registered is None:
        return []
    departures = [*_list_departures(registered, plan, runs)]
    verdict = f"not kept: {'; '.join(departures)}" if departures else "kept to the letter"
    known = registered.get("known_runs", 0)
    before = f", when {known} of its runs were there already" if known else ", before any run"
    return [f"The plan was {summarize_registration(registered)}{before}, and {verdict}."]


def _list_departures(registered: dict[str, Any], plan: StudyPlan, runs: Sequence[Run]) -> list[str]:
    """Return in words where a study and its runs are not what was registered."""
    departures = []
    if registered.get("digest") != _compute_digest(registered):
        departures.append(f"{FILE} was changed afterwards")
    values = plan.to_document()
    changed = _list_changes(registered, {**values, "arms": registered["plan"].get("arms")})  # matching adds to these
    departures += [f"{key} is another" for key in changed]
    unplanned = [seeds for seeds in plan.looked if plan.looks and seeds not in plan.looks]
    if unplanned:
        departures.append(f"judged with {', '.join(map(str, unplanned))} seeds, where no look was planned")
    known = [run for run in runs if run.role == "arm" and run.status == "finished"]
    if missing := [arm for arm in registered["plan"].get("arms", ()) if arm not in {_name_arm(run) for run in known}]:
        departures.append(f"no run of {', '.join(missing)} has finished")
    codes = registered.get("code", {})
    if other := sorted({run.arm for run in known if run.facts.get("code") not in (codes.get(_name_arm(run)), None)}):
        departures.append(f"runs of other code: {', '.join(other)}")
    if any(run.facts.get("data_sha256") not in (*registered.get("data", ()), None) for run in known):
        departures.append("runs on another text")
    return departures


def _name_arm(run: Run) -> str:
    return f"{run.size}/{run.arm}".lstrip("/")
