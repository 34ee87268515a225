"""What a study leaves beside its runs: results.csv, comparison.json, table.tex.

Each is written whole or not at all, and can be made again from the runs at any time. docs/comparison.md has the keys.
"""

import csv
import dataclasses
import io
from pathlib import Path
from typing import Any

from gptlab.report.render import latex
from gptlab.report.text import caveats as fairness
from gptlab.report.text import sentences as words
from gptlab.report.text.summary import answer
from gptlab.report.text.view import Sentence, View, command, views
from gptlab.runs.record import to_json
from gptlab.runs.record import write_atomically as written
from gptlab.stats.results import METRICS, Findings, Run

VERSION = 1
"""Of comparison.json: it grows when a key goes or changes its meaning, not when one is added."""
FIRST = ("arm", "size", "seed", "role", "budget", "lr", "status")
LAST = ("other_code", "folder", "reason", "log")


def write(findings: Findings, folder: Path) -> None:
    """Writes all three."""
    written(folder / "results.csv", results(findings.runs))
    written(folder / "comparison.json", to_json(document(findings), indent=2) + "\n")
    written(folder / "table.tex", latex.table(findings))


def results(runs: list[Run]) -> str:
    """A row a run: what it was, every number of its summary, where it lies."""
    known = [metric.key for metric in METRICS]
    keys = [*known, *sorted({key for run in runs for key in run.values} - {*known})]
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow([*FIRST, *keys, *LAST])
    for run in runs:
        rows.writerow(
            [getattr(run, name) for name in FIRST]
            + [run.values.get(key) for key in keys]
            + [getattr(run, name) for name in LAST]
        )
    return file.getvalue()


def document(findings: Findings) -> dict[str, Any]:
    """comparison.json as plain data."""
    found = dataclasses.asdict(findings)
    told = {id(view.stratum): view for view in views(findings)}
    for plain, stratum in zip(found["strata"], findings.strata, strict=True):
        del plain["runs"]  # they stand below, each with its size
        plain |= _told(told.get(id(stratum)))
    caveats = [str(one) for one in fairness.caveats(findings)]
    return {"version": VERSION, **found, "command": command(findings.asked), "caveats": caveats}


def _told(view: View | None) -> dict[str, Any]:
    return {
        "answer": [_said(one) for one in answer(view)] if view else [],
        "sentences": [_said(one) for one in words.verdicts(view)] if view else [],
    }


def _said(sentence: Sentence) -> dict[str, str]:
    return {"text": str(sentence), "command": sentence.command}
