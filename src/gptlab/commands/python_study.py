"""A study from Python and notebooks: the same command in a process of its own, its verdicts as objects.

study = gptlab.Study("attention=gqa,swa,mha", seeds=3)
study.run().verdicts
"""

import csv
import html
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from gptlab.commands.runs import read_runs
from gptlab.config.menu import CONF
from gptlab.config.typecheck import quote_for_hydra
from gptlab.errors import Ended, Refused
from gptlab.report.render.answer import DECIDED, NOT_RESOLVED, UNSTABLE
from gptlab.runs.parent_process import ASKER

REFUSED = 2
COMPARED = (DECIDED, NOT_RESOLVED, UNSTABLE)
"""Exit statuses of a study that came to its verdicts."""
COLUMNS = {
    "arm": "arm",
    "against": "against",
    "difference": "difference",
    "low": "low",
    "high": "high",
    "verdict": "label",
}
"""Columns of the table in a notebook, and the key of each."""


class Study:
    """A question: axes and settings as beside ablate.py. The same question takes up what is there already.

    words     overrides as one types them, "attention=gqa,mha", "optimizer.lr=1e-3"
    settings  the same by name, for keys without dots: seeds=3, design="star", timing=0
    """

    def __init__(self, *words: str, **settings: Any) -> None:
        named = (
            f"{key}={value if isinstance(value, str) else quote_for_hydra(value)}" for key, value in settings.items()
        )
        self.words = [*words, *named]
        self.answer: dict[str, Any] | None = None
        self.place = Path()  # where it ran, from which its folder is named

    def run(self) -> "Study":
        """Run what is missing and compare; progress goes to stderr. Raises Refused, or Ended where cells failed."""
        # stderr stays the notebook's own, so that progress is seen while it runs
        answer = self._ask(self.words, stderr=None)
        self.answer, self.place = answer, Path.cwd()
        return self

    def check(self) -> None:
        """Raise Refused where the study cannot run; trains and writes nothing, and prints no bill."""
        self._ask([*self.words, "dry_run=true"], stderr=subprocess.DEVNULL)

    def _ask(self, words: list[str], stderr: int | None) -> dict[str, Any]:
        """Return what ablate.py answers, in a process of its own: hydra and torch's threads are global."""
        command = [sys.executable, str(CONF.parent / "ablate.py"), *words, "output=json"]
        environment = {**os.environ, ASKER: str(os.getpid())}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment)
        try:
            printed, _ = process.communicate()
        except BaseException:  # Ctrl-C: its running cell is saved before this process goes
            process.terminate()
            process.communicate()
            raise
        if not printed.strip():
            # killed, or Python itself failed: nothing reached the line that answers
            raise Ended(f"the study ended with status {process.returncode} and no answer; see what it printed")
        # the last line: code of one's own may print before it
        answer = json.loads(printed.splitlines()[-1])
        if process.returncode == REFUSED:
            raise Refused(answer["error"])
        if process.returncode not in COMPARED:
            raise Ended(answer["error"] or f"status {process.returncode}", process.returncode)
        return answer

    @property
    def folder(self) -> Path:
        """The study's folder, with its report.html."""
        return self.place / self._read_answer()["folder"]

    @property
    def verdicts(self) -> list[dict[str, Any]]:
        """One entry for each arm less its baseline; docs/programs.md has the keys."""
        return self._read_answer()["verdicts"]

    def frame(self) -> Any:
        """Return all runs with every number of their summaries as a pandas.DataFrame, a row a run."""
        try:
            pandas = import_module("pandas")
        except ModuleNotFoundError as error:
            raise Refused("frame() needs pandas: pip install pandas; rows() is the same without it") from error
        return pandas.read_csv(self.folder / "results.csv")

    def rows(self) -> list[dict[str, str]]:
        """Return the same rows as results.csv has them."""
        with (self.folder / "results.csv").open(encoding="utf-8", newline="") as file:
            # texts: without pandas nobody guesses which column is a number
            return [*csv.DictReader(file)]

    def _read_answer(self) -> dict[str, Any]:
        if self.answer is None:
            raise Refused("the study has not run; call run()")
        return self.answer

    def __repr__(self) -> str:
        return f"Study({' '.join(self.words)})"

    def _repr_html_(self) -> str:
        """Return the verdicts as a table, which a notebook shows."""
        if self.answer is None:
            return f"<code>{html.escape(repr(self))}</code>, not run"
        lines = [_format_row(COLUMNS)]
        for verdict in self.verdicts:
            lines.append(_format_row(_format_cell(verdict[key]) for key in COLUMNS.values()))
        return f"<table>{''.join(lines)}</table>"


def _format_row(cells: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>"


def _format_cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:+.4f}" if isinstance(value, float) else str(value)


def list_runs(outputs: str | Path = "outputs") -> list[dict[str, Any]]:
    """Return folder, status and summary of every run below a folder of outputs, the best first."""
    return read_runs(Path(outputs))
