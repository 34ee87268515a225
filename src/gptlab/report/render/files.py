"""The files that a study leaves beside its runs: results.csv, comparison.json, table.tex.

Each is written whole or not at all, and can be made again from the runs at any time. docs/comparison.md has the keys.
"""

import csv
import dataclasses
import io
from pathlib import Path
from typing import Any

from gptlab.report.render.latex import render_table
from gptlab.report.text.caveats import list_caveats
from gptlab.report.text.markup import Sentence
from gptlab.report.text.sentences import describe_verdicts
from gptlab.report.text.summary import summarize_view
from gptlab.report.text.view import build_command, make_views
from gptlab.runs.record import to_json, write_atomically
from gptlab.stats.results import METRICS, Findings, Run

VERSION = 1
"""Version of comparison.json: it grows when a key goes or changes its meaning, not when one is added."""
FIRST = ("arm", "size", "seed", "role", "budget", "lr", "status")
LAST = ("other_code", "folder", "reason", "log")
"""Columns of results.csv before and after the numbers."""


def write_files(findings: Findings, folder: Path) -> None:
    """Write all three."""
    write_atomically(folder / "results.csv", format_results_csv(findings.runs))
    write_atomically(folder / "comparison.json", to_json(build_document(findings), indent=2) + "\n")
    write_atomically(folder / "table.tex", render_table(findings))


def format_results_csv(runs: list[Run]) -> str:
    """Return a row for each run: what it was, every number of its summary, where it lies."""
    compared = [metric.key for metric in METRICS]
    others: set[str] = set()
    for run in runs:
        others |= {*run.values} - {*compared}
    keys = [*compared, *sorted(others)]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*FIRST, *keys, *LAST])
    for run in runs:
        first, last = ([getattr(run, name) for name in names] for names in (FIRST, LAST))
        writer.writerow([*first, *map(run.values.get, keys), *last])
    return file.getvalue()


def build_document(findings: Findings) -> dict[str, Any]:
    """Return comparison.json as plain data."""
    document = dataclasses.asdict(findings)
    views = {id(view.stratum): view for view in make_views(findings)}
    for plain, stratum in zip(document["strata"], findings.strata, strict=True):
        del plain["runs"]  # they stand below, each with its size
        view = views.get(id(stratum))
        plain["answer"] = [_to_dict(sentence) for sentence in summarize_view(view)] if view else []
        plain["sentences"] = [_to_dict(sentence) for sentence in describe_verdicts(view)] if view else []
    caveats = [str(sentence) for sentence in list_caveats(findings)]
    del document["plan"]
    # minutes were a part of the plan once, and stay where readers look for them
    plan = {**findings.plan.to_document(), "minutes_per_cell": document.pop("minutes_per_cell")}
    return {
        "version": VERSION,
        "study": findings.study,
        "asked": plan,
        **document,
        "command": build_command(findings.plan),
        "caveats": caveats,
    }


def _to_dict(sentence: Sentence) -> dict[str, str]:
    return {"text": str(sentence), "command": sentence.command}
