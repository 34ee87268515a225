"""A study's folder: its plan, its cells, and the events of each. Runs themselves live in the pool.

study.json    the plan                 cells/<key>.json  each cell with its whole recipe
ledger.jsonl  a line an event          logs/<key>.txt    what went wrong before a run had a folder of its own
"""

import dataclasses
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gptlab.config.recipe import Recipe
from gptlab.config.typecheck import conforms, describe_type
from gptlab.errors import Refused
from gptlab.runs.file_lock import LOCK_ATTEMPTS, try_lock
from gptlab.runs.file_lock import is_held as is_held
from gptlab.runs.fingerprint import fingerprint, fingerprint_recipe, list_modules
from gptlab.runs.record import REMEDY, RunFolder, append_line, read_json, to_json, utc_now, write_atomically
from gptlab.stats.labels import read_label
from gptlab.stats.spending import ALPHA
from gptlab.stats.study_plan import Adjustment, StudyPlan

TERMINAL_STATES = ("finished", "diverged")
"""States of a run that re-running would reproduce."""


@dataclass(frozen=True)
class CellState:
    """State of a cell, from its last event. `run`: the folder's name in the pool."""

    status: str = "missing"  # missing, running, finished, diverged, failed, stopped
    run: str = ""
    reason: str = ""
    log: str = ""
    reused: bool = False
    other_code: bool = False
    owner: str = ""
    at: float = 0.0


CELL_TYPES: dict[str, Any] = {"arm": str, "size": str, "label": str, "budget": float, "seed": int, "lr": float | None}
CELL_TYPES |= {"role": Literal["arm", "twin", "budget", "confirm", "shuffled"], "config": dict[str, Any]}
"""Types of what is read of a cell by those that compare runs or say where they stand."""


class StudyFolder:
    """One study's folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self.outputs = folder.absolute().parents[1]
        self.pool = self.outputs / "runs"

    @property
    def plan(self) -> StudyPlan:
        """The plan, as study.json holds it."""
        return read_plan(self.path / "study.json")

    def save_plan(self, plan: StudyPlan, cells: dict[str, dict[str, Any]]) -> None:
        """Write the plan and the cells."""
        (self.path / "cells").mkdir(parents=True, exist_ok=True)
        (self.path / "logs").mkdir(exist_ok=True)
        for key, cell in cells.items():
            write_atomically(self.path / "cells" / f"{key}.json", to_json(cell))
        # after the cells that it names: a kill in between leaves the former study whole
        write_atomically(self.path / "study.json", to_json(plan.to_document(), indent=2))

    def read_cell(self, key: str) -> dict[str, Any]:
        """Return a cell as it was planned."""
        return read_json(self.path / "cells" / f"{key}.json")

    def read_cells(self) -> dict[str, dict[str, Any]]:
        """Return the cells of the last plan, by key."""
        plan = self.plan
        cells = {key: self.read_cell(key) for key in plan.cells}
        # a block of a study that measures is of all arms together
        keys = CELL_TYPES if plan.knobs is None else ("label", "seed")
        for key, cell in cells.items():
            if wrong := [name for name in keys if name not in cell or not conforms(cell[name], CELL_TYPES[name])]:
                path = self.path / "cells" / f"{key}.json"
                raise Refused(f"{path} is no cell of a study (see its {', '.join(wrong)}); {REMEDY}")
        return cells

    def record_event(self, key: str, status: str, **more: Any) -> None:
        """Add an event, in one write."""
        append_event(self.path / "ledger.jsonl", to_json({"at": time.time(), "key": key, "status": status, **more}))

    def read_events(self) -> Iterator[dict[str, Any]]:
        """Yield all events that are whole."""
        path = self.path / "ledger.jsonl"
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
            try:
                event = json.loads(line)
            except json.JSONDecodeError:  # cut short by a kill
                continue
            if isinstance(event, dict) and isinstance(event.get("key"), str) and isinstance(event.get("status"), str):
                if event["status"] == "compared" and not conforms(event.get("seeds"), list[int]):
                    # a look that is lost would give its alpha back
                    raise Refused(f"{path}: {line[:60]} is a look without its seeds; put a copy of the file back")
                if not isinstance(event.get("run") or "", str):
                    raise Refused(f"{path}: {line[:60]} names no run; put a copy of the file back")
                yield event

    def read_looked(self) -> list[int]:
        """Return the numbers of seeds at which this study has been judged, of those at which a verdict is possible."""
        return sorted({len(seeds) for seeds in self.read_judged_seeds()})

    def read_judged_seeds(self) -> list[set[int]]:
        """Return the seeds of each time that this study has been judged and a verdict was possible."""
        compared = ({*event["seeds"]} for event in self.read_events() if event["status"] == "compared")
        # one seed has no variance, and so spends nothing of alpha
        return [seeds for seeds in compared if len(seeds) > 1]

    def read_confirmed(self) -> list[dict[str, Any]]:
        """Return each judging of a winner: the `seeds` that chose it, and on how many fresh ones (`confirm`)."""
        compared = (event for event in self.read_events() if event["status"] == "compared" and event.get("confirm"))
        return [{"seeds": sorted(event["seeds"]), "confirm": event["confirm"]} for event in compared]

    def read_states(self) -> dict[str, CellState]:
        """Return the last state of every cell. One that ran in a process which is gone is `stopped`."""
        last = {event["key"]: event for event in self.read_events()}
        states = {}
        for key, event in last.items():
            # events of a newer gptlab may hold more
            known = {name: value for name, value in event.items() if name in CellState.__dataclass_fields__}
            if event["status"] == "running" and not is_held(self.lock_path(key)):
                known["status"] = "stopped"
            states[key] = CellState(**known)
        return states

    def lock_path(self, key: str) -> Path:
        """Return the lock file of a cell, shared by all studies on this pool, since they share its run."""
        return self.outputs / "locks" / f"{key}.lock"

    def own_runs(self, key: str) -> list[Path]:
        """Return the run folders that this study began or adopted for a cell, the last one first."""
        names = [event["run"] for event in self.read_events() if event["key"] == key and event.get("run")]
        # without repetition: a resumed run has several events
        return [self.pool / name for name in dict.fromkeys(reversed(names))]

    def adopt_run(self, key: str, folder: Path, *, reused: bool = True) -> None:
        """Record that a finished run is a cell's."""
        summary, cell = read_json(folder / "summary.json"), self.read_cell(key)
        event: dict[str, Any] = {"run": folder.name, "reused": reused}
        event["other_code"] = summary.get("code") != fingerprint_recipe(Recipe(cell["config"], cell["choices"]))
        if summary["status"] != "finished":
            event |= {"reason": summary.get("reason", ""), "log": str(folder / "log.txt")}
        self.record_event(key, summary["status"], **event)

    def find_finished_runs(self, recipes: dict[str, Recipe], reuse: str) -> dict[str, Path]:
        """Return the finished runs of cells; the code is read once for all whose numbers come from the same modules."""
        codes: dict[tuple[str, ...], str] = {}
        finished_runs = {}
        for key, recipe in recipes.items():
            modules = list_modules(recipe)
            if modules not in codes:
                codes[modules] = fingerprint(modules)
            finished, _ = self.find_runs(key, recipe, reuse, codes[modules])
            if finished is not None:
                finished_runs[key] = finished
        return finished_runs

    def find_runs(self, key: str, recipe: Recipe, reuse: str, code: str = "") -> tuple[Path | None, Path | None]:
        """Return a cell's finished run, and the unfinished one to go on with, None where there is none.

        Another study's, or a lone run, will do if it has the same config and, unless reuse=any_code, the same code.
        `code` is the recipe's fingerprint, for those who ask for many cells and know it.
        """
        is_control = key.endswith("-twin")
        own = self.own_runs(key)
        # the A/A control must be a second training: another study's run of this config would be the first one again
        others = [] if is_control or reuse == "never" else sorted(self.pool.glob(f"*-{recipe.hash}*"))
        code = code or fingerprint_recipe(recipe)
        # of the same hash, so that the cell must not take them for its own
        control_runs = self.own_runs(f"{key}-twin")
        finished = unfinished = None
        for path in [*own, *others]:
            facts = _read_facts(path)
            # an own run has another hash if it ran in smaller micro-batches, for want of memory
            same_config = facts.get("hash") == recipe.hash
            same_code = facts.get("code") == code
            if path in control_runs or not (same_config or path in own):
                continue
            if _read_status(path) in TERMINAL_STATES and (same_code or reuse == "any_code"):
                finished = finished or path
            elif not (path / "summary.json").exists() and same_config and same_code and not RunFolder(path).is_busy():
                unfinished = unfinished or path
        return finished, unfinished


def append_event(path: Path, line: str) -> None:
    """Add a line behind one that a kill or a full disk may have cut short: both would be lost as one."""
    is_cut = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
    append_line(path, f"\n{line}" if is_cut else line)


def was_trained(recipe: Recipe) -> bool:
    """Whether a run of this very recipe has ended in its pool, by the same code."""
    folder = StudyFolder(Path(recipe.config["outputs"]).absolute() / "ablations" / "none")
    with suppress(ModuleNotFoundError):  # a target that is not there
        return folder.find_runs("", recipe, "same_code")[0] is not None
    return False


def read_plan(path: Path) -> StudyPlan:
    """Return the plan in a study.json; refuse a file that is no study's.

    What an older gptlab did not write has its default, and keys of a newer one are left out.
    """
    document = read_json(path)
    values = {name: document[name] for name in PLAN_TYPES if name in document}
    if isinstance(values.get("seeds"), int):  # how many, in older measuring studies
        values["seeds"] = list(range(values["seeds"]))
    problems = [f"no {key}" for key in REQUIRED_KEYS if key not in values]
    problems += [f"{name} is not {describe_type(PLAN_TYPES[name])}" for name in values if not _fits(name, values[name])]
    problems = problems or _find_unfit_values(values)
    if problems:
        raise Refused(f"{path} is no plan of a study ({', '.join(problems)}); {REMEDY}")
    for arm, triples in values.get("settled", {}).items():
        # JSON has lists where the plan has tuples
        values["settled"][arm] = [Adjustment(*triple) for triple in triples]
    if "arm_values" not in values:
        # before it was written, the label was all there was: the one place that parses it
        values["arm_values"] = {name: read_label(name) for name in _list_arm_names(values)}
    values["arm_values"] = {name: tuple(map(tuple, pairs)) for name, pairs in values["arm_values"].items()}
    values["versus"] = [(first, other) for first, other in values.get("versus", ())]
    return StudyPlan(**values)


def _find_unfit_values(values: dict[str, Any]) -> list[str]:
    """Return what is wrong with values of the right types."""
    looks, alpha = values.get("looks", []), values.get("alpha", ALPHA)
    wrong = [f"looks={looks} do not increase from 2"] if looks and (looks != sorted({*looks}) or looks[0] < 2) else []
    wrong += [] if 0 < alpha < 1 else [f"alpha={alpha:g} is no probability"]
    return [*wrong, "delta is below 0"] if (values.get("delta") or 0) < 0 else wrong


def _fits(name: str, value: Any) -> bool:
    return conforms(value, PLAN_TYPES[name])


def _list_arm_names(values: dict[str, Any]) -> list[str]:
    """Return the names of arms without their sizes, for an older study.json."""
    axes = values.get("axes", {})
    is_sized = "model" in axes and len(axes) > 1 and values.get("design") == "grid"
    return [key.partition("/")[2] if is_sized else key for key in values["arms"]]


REQUIRED_KEYS = ("study", "arms", "cells")
PLAN_TYPES: dict[str, Any] = {field.name: field.type for field in dataclasses.fields(StudyPlan)}
# tuples as JSON has them
PLAN_TYPES["settled"] = dict[str, list[tuple[str, Any, str]]]
PLAN_TYPES["arm_values"] = dict[str, list[tuple[str, str]]]


def _read_facts(folder: Path) -> dict[str, Any]:
    try:
        return read_json(folder / "run.json")
    except (FileNotFoundError, NotADirectoryError, ValueError):  # what may not be read is no run that is gone
        return {}


def _read_status(folder: Path) -> str:
    try:
        return read_json(folder / "summary.json").get("status", "")
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return ""


# -- locks


@contextmanager
def lock_or_owner(path: Path) -> Iterator[str | None]:
    """Hold a lock and yield None, or yield who holds it.

    The system frees the lock of a process that dies, so a dead owner's is simply taken.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # not "w", which would wipe the owner's note before the lock is ours
    with path.open("a+") as file:
        for left in reversed(range(LOCK_ATTEMPTS)):
            if try_lock(file, path):
                break
            if not left:
                file.seek(0)
                yield file.read().strip() or "another process"
                return
            time.sleep(0.05)
        # the note of the last owner, who may have died with it
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {utc_now()}")
        file.flush()
        yield None
