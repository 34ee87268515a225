"""A study's folder: what was asked, its cells, and what became of them. Runs themselves live in the pool.

study.json    what was asked           cells/<key>.json  each cell with its whole recipe
ledger.jsonl  a line an event          logs/<key>.txt    what went wrong before a run had a folder of its own
"""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptlab.config.recipe import Recipe
from gptlab.runs.fingerprint import code
from gptlab.runs.record import Record, append, dump, now, read, write

OVER = ("finished", "diverged")
"""States of a run that training again would only repeat."""


@dataclass(frozen=True)
class State:
    """Where a cell stands, from its last event. `run`: the folder's name in the pool."""

    status: str = "missing"  # missing, running, finished, diverged, failed, stopped
    run: str = ""
    reason: str = ""
    log: str = ""
    reused: bool = False
    other_code: bool = False
    owner: str = ""
    at: float = 0.0


class Ledger:
    """One study's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outputs = folder.absolute().parents[1]
        self.pool = self.outputs / "runs"

    @property
    def asked(self) -> dict[str, Any]:
        """What study.json holds."""
        return read(self.folder / "study.json")

    def ask(self, asked: dict[str, Any], cells: dict[str, dict[str, Any]]) -> None:
        """Writes what was asked, and the cells."""
        (self.folder / "cells").mkdir(parents=True, exist_ok=True)
        (self.folder / "logs").mkdir(exist_ok=True)
        for key, cell in cells.items():
            write(self.folder / "cells" / f"{key}.json", dump(cell))
        write(self.folder / "study.json", dump(asked, indent=2))

    def cell(self, key: str) -> dict[str, Any]:
        """A cell as it was planned."""
        return read(self.folder / "cells" / f"{key}.json")

    def cells(self) -> dict[str, dict[str, Any]]:
        """The cells that were asked for last, by key."""
        return {key: self.cell(key) for key in self.asked["cells"]}

    def note(self, key: str, status: str, **more: Any) -> None:
        """Adds an event, in one write."""
        append(self.folder / "ledger.jsonl", dump({"at": time.time(), "key": key, "status": status, **more}))

    def events(self) -> Iterator[dict[str, Any]]:
        """All events that are whole."""
        path = self.folder / "ledger.jsonl"
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:  # cut short by a kill
                continue

    def states(self) -> dict[str, State]:
        """The last state of every cell. One that ran in a process which is gone is `stopped`."""
        last = {event["key"]: event for event in self.events()}
        found = {}
        for key, event in last.items():
            known = {name: value for name, value in event.items() if name in State.__dataclass_fields__}
            if event["status"] == "running" and not held(self.lock(key)):
                known["status"] = "stopped"
            found[key] = State(**known)
        return found

    def lock(self, key: str) -> Path:
        """The lock of a cell: of all studies on this pool, since they share its run."""
        return self.outputs / "locks" / f"{key}.lock"

    def mine(self, key: str) -> list[Path]:
        """Run folders that this study began or took for a cell, the last one first."""
        names = [event["run"] for event in self.events() if event["key"] == key and event.get("run")]
        return [self.pool / name for name in dict.fromkeys(reversed(names))]

    def take(self, key: str, folder: Path, *, reused: bool = True) -> None:
        """Notes that a run which is over is a cell's."""
        summary, recipe = read(folder / "summary.json"), self.cell(key)
        other = summary.get("code") != code(Recipe(recipe["config"], recipe["choices"]))
        bad = (
            {"reason": summary.get("reason", ""), "log": str(folder / "log.txt")}
            if summary["status"] != "finished"
            else {}
        )
        self.note(key, summary["status"], run=folder.name, reused=reused, other_code=other, **bad)

    def found(self, key: str, recipe: Recipe, reuse: str) -> tuple[Path | None, Path | None]:
        """The run of a cell that is over, and the one to go on with, if there are any. Another study's, or a lone run,
        will do if it has the same config and, unless reuse=any_code, the same code."""
        alone = key.endswith("-twin")
        own = self.mine(key)
        others = [] if alone or reuse == "never" else sorted(self.pool.glob(f"*-{recipe.hash}*"))
        mine = code(recipe)
        twins = self.mine(f"{key}-twin")
        over = unfinished = None
        for folder in [*own, *others]:
            facts = _facts(folder)
            alike = facts.get("hash") == recipe.hash  # not so if it ran in smaller micro-batches, for want of memory
            same = facts.get("code") == mine
            if folder in twins or not (alike or folder in own):
                continue
            if _status(folder) in OVER and (same or reuse == "any_code"):
                over = over or folder
            elif not (folder / "summary.json").exists() and alike and same and not Record(folder).busy():
                unfinished = unfinished or folder
        return over, unfinished


def _facts(folder: Path) -> dict[str, Any]:
    try:
        return read(folder / "run.json")
    except (OSError, ValueError):
        return {}


def _status(folder: Path) -> str:
    try:
        return read(folder / "summary.json").get("status", "")
    except (OSError, ValueError):
        return ""


# -- locks


@contextmanager
def locked(path: Path) -> Iterator[str | None]:
    """Holds a lock and yields None, or yields who holds it. The system frees the lock of a process that dies, so a dead
    owner's is simply taken."""
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        for left in reversed(range(TRIES)):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not left:
                    file.seek(0)
                    yield file.read().strip() or "another process"
                    return
                time.sleep(0.05)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {now()}")
        file.flush()
        yield None


TRIES = 4
"""Who only looks holds a lock for an instant, which must not be taken for an owner."""


def held(path: Path) -> bool:
    """True while a living process holds a lock."""
    import fcntl

    if not path.exists():
        return False
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
