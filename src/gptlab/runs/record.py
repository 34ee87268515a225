"""A run's folder, the only truth about the run: plain files, each written so that a kill at any moment loses little.

run.json          what was known at the start: command, choices, code fingerprint, versions, data
config.yaml       the resolved config          tokenizer.json   text to tokens, so that sampling needs no corpus
metrics.jsonl     a row each few steps         samples.jsonl    texts that it wrote
evaluation.npz    nats of every scored target  checkpoints/     last, previous, best
log.txt           what it said                 summary.json     the results; a run without it is unfinished
"""

import fcntl
import json
import math
import os
import shutil
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from gptlab.config.recipe import Recipe
from gptlab.errors import Refused


class Record:
    """One run folder. Rows and samples are on disk when the call returns."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkpoints = folder / "checkpoints"

    @classmethod
    def create(cls, recipe: Recipe) -> "Record":
        """A new folder in the pool of runs; a name that is taken gets -2, -3, ...: no folder is ever overwritten."""
        pool = Path(recipe.settings.outputs) / "runs"
        try:
            pool.mkdir(parents=True, exist_ok=True)
            folder = _claim(pool, recipe.folder)
        except OSError as error:
            raise Refused(
                f"outputs={recipe.settings.outputs} cannot be written: {error.strerror}; set outputs=<folder>"
            ) from error
        return cls(folder)

    def begin(self, recipe: Recipe, tokenizer: dict[str, Any], **facts: Any) -> None:
        """Writes what is known at the start; if that fails, nothing stays."""
        try:
            self.checkpoints.mkdir()
            write(self.folder / "config.yaml", yaml.safe_dump(recipe.config, sort_keys=False, allow_unicode=True))
            write(self.folder / "tokenizer.json", dump(tokenizer))
            write(self.folder / "run.json", dump({"started": now(), **facts}, indent=2))
        except OSError as error:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise Refused(
                f"outputs: {self.folder} cannot be written: {error.strerror}; set outputs=<folder>"
            ) from error

    def settle(self, **facts: Any) -> None:
        """Adds to run.json what is decided while the run begins, and must hold when it is resumed."""
        write(self.folder / "run.json", dump({**self.facts(), **facts}, indent=2))

    def facts(self) -> dict[str, Any]:
        """What run.json holds."""
        return read(self.folder / "run.json")

    def busy(self) -> bool:
        """True while a process works in the folder."""
        try:
            with self.locked():
                return False
        except Refused:
            return True

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the folder against a second process; the lock of a process that died is free."""
        with (self.folder / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Refused(f"{self.folder} is at work in another process; wait for it or stop it") from error
            yield

    @contextmanager
    def removed_if_refused(self, fresh: bool) -> Iterator[None]:
        """What is refused leaves nothing half-made."""
        try:
            yield
        except Refused:
            if fresh:
                shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def row(self, row: dict[str, Any]) -> None:
        """Adds a row of metrics."""
        append(self.folder / "metrics.jsonl", dump(row))

    def sample(self, row: dict[str, Any]) -> None:
        """Adds a text."""
        append(self.folder / "samples.jsonl", dump(row))

    def log(self, text: str) -> None:
        """Adds a line to log.txt."""
        append(self.folder / "log.txt", f"{now()} {text}")

    def log_error(self, error: BaseException) -> None:
        """Adds a traceback to log.txt."""
        self.log("".join(traceback.format_exception(error)).rstrip())

    def rewind(self, metrics: int, samples: int) -> None:
        """Forgets all but the first rows and samples; a resumed run will write the others again."""
        for name, count in (("metrics.jsonl", metrics), ("samples.jsonl", samples)):
            kept = islice(rows(self.folder / name), count)
            if (self.folder / name).exists():
                write(self.folder / name, "".join(f"{dump(row)}\n" for row in kept))

    def finish(self, summary: dict[str, Any]) -> None:
        """Writes summary.json, which says that the run is over."""
        write(self.folder / "summary.json", dump(summary, indent=2))


def stored(folder: Path) -> Recipe:
    """The recipe of an unfinished run folder."""
    if not (folder / "config.yaml").exists() or not (folder / "run.json").exists():
        raise Refused(
            f"resume={folder} is no run folder: it holds no config.yaml and run.json; see `python -m gptlab runs`"
        )
    if (folder / "summary.json").exists():
        status = read(folder / "summary.json").get("status")
        raise Refused(f"resume={folder} is over already ({status}); change a setting to start another run")
    return saved(folder)


def saved(folder: Path) -> Recipe:
    """The recipe of a run folder."""
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        facts = Record(folder).facts()
        older = {"change": {}, "callback": {}}  # a run of before there were any
        return Recipe({**older, **config}, facts["choices"], tuple(facts["differs"]))
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        line = str(error).splitlines()[0]
        raise Refused(f"{folder}: its config.yaml or run.json cannot be read ({line}); start another run") from error


def nearest(outputs: Path) -> Path:
    """The folder in which `outputs` is or would be made."""
    return next(path for path in (outputs.absolute(), *outputs.absolute().parents) if path.exists())


def free_bytes(outputs: Path) -> int:
    """What can still be written there."""
    return shutil.disk_usage(nearest(outputs)).free


def unwritable(outputs: Path) -> list[str]:
    """Why runs cannot live in a folder, if they cannot; nothing is made to find out."""
    there = nearest(outputs)
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return []
    return [f"outputs={outputs} cannot be written: {there} is read-only or no folder; set outputs=<folder>"]


def unfinished(outputs: Path, wanted: str) -> Path | None:
    """The newest unfinished run of a config, by its hash."""
    found = [
        path.parent
        for path in (outputs / "runs").glob("*/run.json")
        if not (path.parent / "summary.json").exists() and Record(path.parent).facts()["hash"] == wanted
    ]
    return max(found, key=lambda folder: (folder / "run.json").stat().st_mtime, default=None)


def _claim(pool: Path, name: str) -> Path:
    for number in range(1, 10_000):
        folder = pool / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            continue
    raise FileExistsError(f"{name} is taken 9,999 times")


def now() -> str:
    """The time, UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def dump(value: Any, indent: int | None = None) -> str:
    """Strict JSON; what is not finite becomes null."""
    return json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, indent=indent)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value


def write(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w", encoding="utf-8", errors="surrogatepass") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def read(path: Path) -> dict[str, Any]:
    """A JSON file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise Refused(f"{path} is not whole JSON ({error}); remove it, and repeat the command") from error


def append(path: Path, line: str) -> None:
    """Adds a line, in one write."""
    with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(f"{line}\n")


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a .jsonl file; a last line that a kill cut short is left out."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    try:
        yield from json.loads(f"[{','.join(filter(None, lines))}]")  # all at once, which takes half the time
    except json.JSONDecodeError:
        for line in lines:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:  # half a row
                return
