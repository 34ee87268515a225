"""A run's folder, the only truth about the run: plain files, each written so that a kill at any moment loses little.

run.json          what was known at the start: command, choices, code fingerprint, versions, data
config.yaml       the resolved config          tokenizer.json   text to tokens, so that sampling needs no corpus
metrics.jsonl     a row each few steps         samples.jsonl    texts that it wrote
evaluation.npz    nats of every scored target  checkpoints/     last, previous, best
log.txt           what it said                 summary.json     the results; a run without it is unfinished
"""

import json
import os
import shutil
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, TypeGuard

import yaml

from gptlab.config.recipe import STANDARD, TOKEN_EMBEDDING, Recipe, describe_damage
from gptlab.console.json_text import to_json as to_json
from gptlab.errors import Refused
from gptlab.runs.file_lock import LOCK_ATTEMPTS, is_held, try_lock

LOCK = ".lock"  # of a run's folder, held by the process at work in it


class RunFolder:
    """One run folder. Rows and samples are on disk when the call returns."""

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self.checkpoints = folder / "checkpoints"

    @classmethod
    def create(cls, recipe: Recipe) -> "RunFolder":
        """Make a new folder in the pool of runs.

        A name that is taken gets -2, -3, ...: no folder is ever overwritten.
        """
        pool = Path(recipe.settings.outputs) / "runs"
        try:
            pool.mkdir(parents=True, exist_ok=True)
            # two cells of one recipe may begin at once
            path = _make_unique_folder(pool, recipe.folder)
        except OSError as error:
            raise Refused(
                f"outputs={recipe.settings.outputs} cannot be written: {error.strerror}; set outputs=<folder>"
            ) from error
        return cls(path)

    def write_start(self, recipe: Recipe, tokenizer: dict[str, Any], **facts: Any) -> None:
        """Write what is known at the start; if that fails, nothing stays."""
        try:
            self.checkpoints.mkdir()
            config = yaml.safe_dump(recipe.config, sort_keys=False, allow_unicode=True)
            write_atomically(self.path / "config.yaml", config)
            write_atomically(self.path / "tokenizer.json", to_json(tokenizer))
            write_atomically(self.path / "run.json", to_json({"started": utc_now(), **facts}, indent=2))
        except OSError as error:
            shutil.rmtree(self.path, ignore_errors=True)
            raise Refused(f"outputs: {self.path} cannot be written: {error.strerror}; set outputs=<folder>") from error

    def update_facts(self, **facts: Any) -> None:
        """Add to run.json what is decided while the run begins, and must hold when it is resumed."""
        write_atomically(self.path / "run.json", to_json({**self.read_facts(), **facts}, indent=2))

    def read_facts(self) -> dict[str, Any]:
        """Return the content of run.json."""
        return read_json(self.path / "run.json")

    def is_busy(self) -> bool:
        """Whether a process works in the folder."""
        return is_held(self.path / LOCK)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder against a second process; the lock of a process that died is free."""
        # never removed: a process that waits has this very file open, and a new one of its name would be another lock
        with (self.path / LOCK).open("w") as file:
            for left in reversed(range(LOCK_ATTEMPTS)):
                if try_lock(file, self.path):
                    break
                if not left:
                    raise Refused(f"{self.path} is at work in another process; wait for it or stop it")
                time.sleep(0.05)
            for left in self.path.glob(".*.part"):  # of a process that was killed while it wrote
                left.unlink(missing_ok=True)
            yield

    @contextmanager
    def remove_if_refused(self, fresh: bool) -> Iterator[None]:
        """Remove a fresh run that is refused before it has a checkpoint; what was trained stays."""
        try:
            yield
        except Refused:
            if fresh and not self.has_checkpoint():
                shutil.rmtree(self.path, ignore_errors=True)
            raise

    def has_checkpoint(self) -> bool:
        """Return whether the folder holds anything that was trained."""
        return any(self.checkpoints.glob("*.ckpt"))

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Add a row of metrics."""
        append_line(self.path / "metrics.jsonl", to_json(row))

    def append_sample(self, row: dict[str, Any]) -> None:
        """Add a generated text."""
        append_line(self.path / "samples.jsonl", to_json(row))

    def log(self, text: str) -> None:
        """Add a line to log.txt."""
        append_line(self.path / "log.txt", f"{utc_now()} {text}")

    def log_error(self, error: BaseException) -> None:
        """Add a traceback to log.txt."""
        self.log("".join(traceback.format_exception(error)).rstrip())

    def rewind(self, metrics: int, samples: int) -> None:
        """Drop all but the first rows and samples; a resumed run will write the others again."""
        for name, count in (("metrics.jsonl", metrics), ("samples.jsonl", samples)):
            # through the reader, which leaves out a row that the kill cut short
            first_rows = islice(read_rows(self.path / name), count)
            if (self.path / name).exists():
                write_atomically(self.path / name, "".join(f"{to_json(row)}\n" for row in first_rows))

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write summary.json, which says that the run is over."""
        write_atomically(self.path / "summary.json", to_json(summary, indent=2))


def read_unfinished_recipe(folder: Path) -> Recipe:
    """Return the recipe of an unfinished run folder."""
    if not (folder / "config.yaml").exists() or not (folder / "run.json").exists():
        raise Refused(
            f"resume={folder} is no run folder: it holds no config.yaml and run.json; see `python -m gptlab runs`"
        )
    if (folder / "summary.json").exists():
        status = read_json(folder / "summary.json").get("status")
        raise Refused(f"resume={folder} is over already ({status}); change a setting to start another run")
    return read_recipe(folder)


def read_recipe(folder: Path) -> Recipe:
    """Return the recipe of a run folder."""
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        facts = RunFolder(folder).read_facts()
        # runs from before these keys were; empty, they change no hash
        older = {"change": {}, "callback": {}, "content": {}, "parametrization": STANDARD}
        older["embedding"] = TOKEN_EMBEDDING
        recipe = Recipe({**older, **config}, dict(facts["choices"]), tuple(facts["differs"]))
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise Refused(f"{folder}: its config.yaml or run.json cannot be read ({line}); start another run") from error
    if damage := describe_damage(recipe.config):
        raise Refused(f"{folder}: {damage}; {REMEDY}")
    return recipe


def _make_unique_folder(pool: Path, name: str) -> Path:
    for number in range(1, 10_000):
        folder = pool / (name if number == 1 else f"{name}-{number}")
        try:
            # mkdir tells atomically who was first
            folder.mkdir()
            return folder
        except FileExistsError:
            continue
    raise FileExistsError(f"{name} is taken 9,999 times")


def utc_now() -> str:
    """Return the time, UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@contextmanager
def fill_folder(into: Path) -> Iterator[Path]:
    """Yield a folder to fill; it is renamed to `into` once all is written, and removed if anything fails."""
    # beside it: a rename does not leave its disk
    part = into.with_name(f".{into.name}.{os.getpid()}")
    part.mkdir(parents=True)
    try:
        yield part
        part.rename(into)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all."""
    # beside it, since a rename is atomic within one file system only; of this process alone, since two of them may end
    # the same study
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
            file.flush()
            # before the rename, or after a power cut the name may lead to an empty file
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        error.filename = str(path)  # a full disk names no file, and nobody knows the part
        raise


REMEDY = "put a copy of it back, or remove it and repeat the command that made it"
"""What to do with a damaged file."""


def read_json(path: Path, kind: type = dict) -> Any:
    """Return the content of a JSON file, an object unless another `kind` is wanted."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # no JSON, no UTF-8
        raise Refused(f"{path} is not whole JSON ({error}); {REMEDY}") from error
    if not isinstance(content, kind):
        raise Refused(f"{path} holds no {kind.__name__} in JSON; {REMEDY}")
    return content


def append_line(path: Path, line: str) -> None:
    """Add a line, in one write."""
    with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
        # one write to a file opened for appending: lines of two processes do not mix
        file.write(f"{line}\n")


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a .jsonl file; a last line that a kill cut short is left out.

    Any other line that is no object is refused: the rows after it would be lost, or moved by one, in silence.
    """
    if not path.exists():
        return
    lines = [line for line in path.read_text(encoding="utf-8", errors="replace").split("\n") if line]
    try:
        rows = json.loads(f"[{','.join(lines)}]")  # all at once, which takes half the time
    except json.JSONDecodeError:
        rows = []
    if len(rows) != len(lines) or not all(map(_is_row, rows)):
        rows = [_parse_row(line, path, is_last=line is lines[-1]) for line in lines]
    yield from filter(None, rows)


def _parse_row(line: str, path: Path, *, is_last: bool) -> dict[str, Any]:
    """Return the object of a line; {} for a last line that is half a row."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        row = {} if is_last else None
    if not _is_row(row):
        raise Refused(f"{path} has a line that is no row: {line[:60]!r}; {REMEDY}")
    return row


def _is_row(row: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(row, dict) and isinstance(row.get("step", 0), int)
