"""The files that a study leaves beside its runs: results.csv, comparison.json, table.tex.

Each is written whole or not at all, and can be made again from the runs at any time. comparison_keys.py has the keys.
"""

import csv
import dataclasses
import io
from pathlib import Path
from typing import Any

from gptlab.errors import Refused
from gptlab.report.render.comparison_keys import VERSION
from gptlab.report.render.latex import render_table
from gptlab.report.text.caveats import list_caveats
from gptlab.report.text.markup import Sentence
from gptlab.report.text.sentences import describe_verdicts
from gptlab.report.text.summary import summarize_view
from gptlab.report.text.view import build_command, make_views
from gptlab.runs.record import read_json, to_json, write_atomically
from gptlab.stats.results import METRICS, Findings, Run

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
        # the metrics that are compared first, then all others by name: columns are the same whatever run comes first
        others |= {*run.values} - {*compared}
    keys = [*compared, *sorted(others)]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*FIRST, *keys, *LAST])
    for run in runs:
        first = [getattr(run, name) for name in FIRST]
        last = [getattr(run, name) for name in LAST]
        writer.writerow([*first, *map(run.values.get, keys), *last])
    return file.getvalue()


def build_document(findings: Findings) -> dict[str, Any]:
    """Return comparison.json as plain data."""
    document = dataclasses.asdict(findings)
    views = {id(view.stratum): view for view in make_views(findings)}
    for plain, stratum in zip(document["strata"], findings.strata, strict=True):
        del plain["runs"]  # they stand below, each with its size
        view = views.get(id(stratum))
        plain["answer"] = [sentence_to_dict(sentence) for sentence in summarize_view(view)] if view else []
        plain["sentences"] = [sentence_to_dict(sentence) for sentence in describe_verdicts(view)] if view else []
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


def read_comparison(path: Path) -> dict[str, Any]:
    """Return a comparison.json of this version or an older one; a newer one may mean other things by its keys."""
    document = read_json(path)
    # files before version 1 have none: they have the same keys, or lack some
    version = document.get("version", VERSION)
    if not isinstance(version, int) or version > VERSION:
        raise Refused(f"{path} is of version {version}, and this gptlab reads up to {VERSION}; read it with a newer")
    return document


NOT_WHOLE = "its comparison.json is not whole"


def list_answers(document: dict[str, Any]) -> list[str]:
    """Return the first sentence of each stratum's answer; a damaged file says so, and hides no other study."""
    try:
        return [str(stratum["answer"][0]["text"]) for stratum in document.get("strata", []) if stratum.get("answer")]
    except (TypeError, KeyError, IndexError, AttributeError):
        return [NOT_WHOLE]


def sentence_to_dict(sentence: Sentence) -> dict[str, str]:
    return {"text": str(sentence), "command": sentence.command}
