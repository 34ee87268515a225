"""outputs/index.html: every study and every run of a place, newest first, each a link to its page where it has one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gptlab.console.units import format_duration
from gptlab.errors import Refused
from gptlab.report.render.files import NOT_WHOLE, list_answers, read_comparison
from gptlab.report.render.html import load_template
from gptlab.runs.record import RunFolder, read_json, write_atomically
from gptlab.runs.study_folder import StudyFolder


def save_index(outputs: Path) -> Path:
    """Write the index of an outputs folder, and return its path."""
    path = outputs / "index.html"
    write_atomically(path, render_index(outputs))
    return path


def render_index(outputs: Path) -> str:
    """Return the page, from the folders alone."""
    study_files, run_files = (outputs / "ablations").glob("*/study.json"), (outputs / "runs").glob("*/run.json")
    studies = sorted((_describe_study(file.parent) for file in study_files), key=_get_sort_key, reverse=True)
    runs = sorted((_describe_run(file.parent) for file in run_files), key=_get_sort_key, reverse=True)
    return load_template("index.html.jinja").render(studies=studies, runs=runs)


def _get_sort_key(row: dict[str, Any]) -> tuple[str, str]:
    return row["when"], row["name"]


def _describe_study(folder: Path) -> dict[str, Any]:
    """Return the row of a study: its answers, how many of its runs finished, and when it was last at work."""
    comparison = _read_or_empty(read_comparison, folder / "comparison.json")
    try:
        answers, runs = list_answers(comparison), comparison.get("runs", [])
        finished = sum(run["status"] == "finished" for run in runs)
        time = format_duration(comparison["seconds"]) if comparison.get("seconds") else ""
    except (TypeError, KeyError, ValueError):  # a damaged one hides no other study
        answers, finished, runs, time = [NOT_WHOLE], 0, [], ""
    # the ledger's last line, and not a file's time: a copied folder keeps its place
    times = [event.get("at") for event in StudyFolder(folder).read_events()]
    last_event = max((float(at) for at in times if isinstance(at, int | float)), default=0.0)
    return {
        "name": folder.name,
        "href": _link_report("ablations", folder),
        "answers": answers or ["not compared yet"],
        "runs": f"{finished} of {len(runs)}" if runs else "",
        "time": time,
        "when": f"{last_event:017.3f}",  # seconds since 1970, as text that sorts like the number
    }


def _describe_run(folder: Path) -> dict[str, Any]:
    """Return the row of a run, also of one that is not over."""
    summary, facts = (_read_or_empty(read_json, folder / name) for name in ("summary.json", "run.json"))
    if not isinstance(summary.get("status", ""), str):
        summary = {"status": "not whole"}
    try:
        return _describe_summary(folder, summary, facts)
    except (TypeError, ValueError):  # a text where a number is meant; one such run hides no other
        return _describe_summary(folder, {"status": "not whole"}, facts)


def _describe_summary(folder: Path, summary: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    loss, params = summary.get("val/loss"), summary.get("params")
    return {
        "name": folder.name,
        "href": _link_report("runs", folder),
        "loss": f"{loss:.4f}" if loss is not None else "",
        "params": f"{params:,}" if params else "",
        "steps": f"{summary['steps']:,}" if "steps" in summary else "",
        "time": format_duration(summary["time/total_s"]) if "time/total_s" in summary else "",
        "status": summary.get("status") or ("at work" if RunFolder(folder).is_busy() else "unfinished"),
        "when": str(facts.get("started", "")),
    }


def _link_report(parent: str, folder: Path) -> str:
    """Return a relative link, so that outputs may be moved; empty where there is no page."""
    return quote(f"{parent}/{folder.name}/report.html") if (folder / "report.html").exists() else ""


def _read_or_empty(read: Callable[[Path], dict[str, Any]], path: Path) -> dict[str, Any]:
    try:
        return read(path)
    except (OSError, Refused):
        return {}
