"""Tiny runs of train.py: in this process where that says the same, in one of their own to be killed."""

import contextlib
import io
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from forked_process import Forked

ROOT = Path(__file__).parents[2]
TINY = (
    "model=nano model.width=16 model.layers=1 model.context=16 batch_size=8 steps=40 log_every=5 save_every=7 "
    "evaluation.every=20 evaluation.tokens=64 sample.count=0 sample.length=8 tracking=disabled data=text "
    f"data.path={ROOT}/LICENSE"
).split()
"""About half a second. Saved steps (7, 14, ...) are no logged ones (5, 10, ...)."""

COMPARED = (0, 3)
"""Exit statuses of a study that came to its verdicts: all decided, or some not resolved."""


class Done(NamedTuple):
    """What a finished train.py left."""

    status: int
    out: str
    err: str

    @property
    def folder(self) -> Path:
        """The run folder, which the last line names."""
        return Path(self.out.splitlines()[-1])


def tiny(pool: Path, *more: str) -> list[str]:
    """The overrides of a tiny run that writes below `pool`."""
    return [*TINY, f"outputs={pool}", *more]


def train(*overrides: str) -> Done:
    """python train.py <overrides>, in this process."""
    return program("train.py", *overrides)


def program(name: str, *words: str) -> Done:
    """python <name> <words>, in this process; "-m gptlab" is the package."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", [name, *words]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            if name.startswith("-m "):
                sys.modules.pop(f"{name.removeprefix('-m ')}.__main__", None)  # else runpy warns
                runpy.run_module(name.removeprefix("-m "), run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(str(ROOT / name), run_name="__main__")
        except SystemExit as end:
            status = int(end.code or 0)
    return Done(status, out.getvalue(), err.getvalue())


def start(*overrides: str, warnings: tuple[str, ...] = ("error",)) -> Forked:
    """python train.py <overrides>, in a process of its own."""
    return Forked("train.py", *overrides, warnings=warnings)


def start_anew(*overrides: str) -> "subprocess.Popen[str]":
    """The same, in a process that imports everything itself."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "train.py", *overrides],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # bit-equal to this process, which has one thread
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: "Forked | subprocess.Popen[str]") -> Done:
    """Waits for a process of `start`."""
    out, err = process.communicate(timeout=120)
    return Done(process.wait(timeout=1), out, err)


def finished(*overrides: str) -> Path:
    """The folder of a run, in this process, that came to its end."""
    done = train(*overrides)
    assert done.status == 0, done.err
    return done.folder


def rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a .jsonl file, all of them whole and without NaN."""
    return [strict(line) for line in file.read_text().splitlines()] if file.exists() else []


def summary(folder: Path) -> dict[str, Any]:
    """The summary of a run, without NaN."""
    return strict((folder / "summary.json").read_text())


def strict(text: str) -> Any:
    """JSON as the standard has it."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} in JSON")

    return json.loads(text, parse_constant=refuse)


def numbers(folder: Path) -> dict[str, Any]:
    """All that a finished run computed, without what the clock said."""

    def timeless(row: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in row.items() if not key.startswith(("time/", "throughput/", "memory/"))}

    kept = timeless(summary(folder))
    for key in ("started", "ended", "id"):
        kept.pop(key)
    metrics = [timeless(row) for row in rows(folder / "metrics.jsonl")]
    return {"summary": kept, "metrics": metrics, "samples": rows(folder / "samples.jsonl")}
