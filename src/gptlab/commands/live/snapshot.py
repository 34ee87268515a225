"""Content of the live page, from the folders of runs and studies alone; nothing is locked and nothing is written.

Files of a run that is over are read once. Names come from the browser: one that is no folder of this place is refused.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gptlab.errors import Refused
from gptlab.report.render.files import list_answers, read_comparison
from gptlab.runs.diff import find_differences
from gptlab.runs.record import read_json, read_rows

MAX_POINTS = 300
"""Points of a curve that are sent."""
CURVES = ("train/loss", "val/loss")
MAX_RUNS = 8
"""Runs that are drawn at once."""

DescribeStudy = Callable[[Path], str]
"""A study's folder to a line of where it stands."""


class Snapshot:
    """Reads one outputs folder, again and again."""

    def __init__(self, outputs: Path, describe_study: DescribeStudy) -> None:
        self.outputs, self.describe_study = outputs, describe_study
        self.cache: dict[tuple[Path, str], tuple[tuple[int, int], Any]] = {}

    def list_studies(self) -> list[dict[str, Any]]:
        """Return every study, the one that something happened in last first."""
        files = (self.outputs / "ablations").glob("*/study.json")
        return sorted((self._describe_study(file.parent) for file in files), key=lambda row: row["age"])

    def list_runs(self) -> list[dict[str, Any]]:
        """Return every run, the newest first."""
        files = (self.outputs / "runs").glob("*/run.json")
        return sorted((self._describe_run(file.parent) for file in files), key=lambda row: row["age"])

    def read_curves(self, names: list[str]) -> dict[str, dict[str, list[list[float]]]]:
        """Return the points [step, loss] of each curve of each run."""
        return {
            name: self._read_cached(self.find_run(name) / "metrics.jsonl", _read_points) for name in names[:MAX_RUNS]
        }

    def find_differences(self, names: list[str]) -> dict[str, list[str]]:
        """Return the config keys in which runs differ, with a value for each run."""
        return find_differences([self.find_run(name) for name in names[:MAX_RUNS]])

    def find_run(self, name: str) -> Path:
        """Return the folder of a run."""
        return self._find("runs", name, "run.json")

    def find_report(self, kind: str, name: str) -> Path:
        """Return the page of a run or of a study."""
        page = self._find(kind, name, "run.json" if kind == "runs" else "study.json") / "report.html"
        if not page.is_file():
            raise Refused(f"{name} has no page yet; run: python -m gptlab report {page.parent}")
        return page

    def _find(self, kind: str, name: str, mark: str) -> Path:
        # before the path is made: a name such as ../x would lead out of the outputs
        if kind not in ("runs", "ablations") or Path(name).name != name or name in ("", ".", ".."):
            raise Refused(f"{name!r} is no run or study of {self.outputs}")
        if not (self.outputs / kind / name / mark).is_file():
            raise Refused(f"{name!r} is no run or study of {self.outputs}")
        return self.outputs / kind / name

    def _describe_study(self, folder: Path) -> dict[str, Any]:
        ledger = folder / "ledger.jsonl"
        comparison = self._read_cached(folder / "comparison.json", _read_comparison_or_empty)
        return {
            "name": folder.name,
            # while it works its cells move on without a line in the ledger
            "progress": self._read_cached(ledger, lambda _: self.describe_study(folder), live=not comparison),
            "answer": " ".join(list_answers(comparison)),
            "has_page": (folder / "report.html").is_file(),
            # a study that has begun has a ledger; one that is only planned has its plan
            "age": _age_s(ledger if ledger.exists() else folder / "study.json"),
        }

    def _describe_run(self, folder: Path) -> dict[str, Any]:
        summary = self._read_cached(folder / "summary.json", _read_or_empty)
        metrics = folder / "metrics.jsonl"
        # a run that is over is never read through again
        last = {} if summary else self._read_cached(metrics, _read_last_row)
        return {
            "name": folder.name,
            "status": summary.get("status", "unfinished"),
            "loss": summary.get("val/loss", last.get("train/loss")),
            "params": summary.get("params"),
            "step": summary.get("steps", last.get("step", 0)),
            "has_page": (folder / "report.html").is_file(),
            "age": _age_s(metrics if metrics.exists() else folder / "run.json"),
        }

    def _read_cached(self, path: Path, read: Callable[[Path], Any], live: bool = False) -> Any:
        """Return `read(file)`, cached for as long as the file is the same; `live` always reads."""
        try:
            stat = path.stat()
            # both: two appends within a tick of the clock differ in size alone
            state = (stat.st_mtime_ns, stat.st_size)
        except OSError:
            state = (0, 0)
        # two readers of one file keep what each made of it
        key = (path, read.__name__)
        known = self.cache.get(key)
        if live or known is None or known[0] != state:
            known = self.cache[key] = (state, read(path))
        return known[1]


def _read_or_empty(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except (OSError, ValueError):
        return {}


def _read_comparison_or_empty(path: Path) -> dict[str, Any]:
    try:
        return read_comparison(path)
    except (OSError, ValueError):
        return {}


def _read_rows_or_empty(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a .jsonl file, none where it is damaged: the page shows all other runs."""
    try:
        return [*read_rows(path)]
    except Refused:
        return []


def _read_last_row(path: Path) -> dict[str, Any]:
    """Return the last whole row with a loss, from the end of the file."""
    rows = [row for row in _read_rows_or_empty(path) if "train/loss" in row]
    return rows[-1] if rows else {}


def _read_points(path: Path) -> dict[str, list[list[float]]]:
    rows = _read_rows_or_empty(path)
    curves = {}
    for key in CURVES:
        points = [[row["step"], row[key]] for row in rows if isinstance(row.get(key), int | float)]
        # rounded up, so that no more than MAX_POINTS stay
        step = max(1, -(-len(points) // MAX_POINTS))
        curves[key] = points[::-step][::-1]  # the last one is always there
    return curves


def _age_s(path: Path) -> float:
    try:
        return round(max(0.0, time.time() - path.stat().st_mtime), 1)
    except OSError:
        return 0.0
