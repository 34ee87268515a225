"""outputs/index.html: every study and every run of a place, newest first, each a link to its page where it has one."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

from gptlab.console.units import format_duration
from gptlab.errors import Refused
from gptlab.report.render.html import template
from gptlab.runs.record import RunFolder, read_json, read_rows, write_atomically


def save(outputs: Path) -> Path:
    """Writes it."""
    path = outputs / "index.html"
    write_atomically(path, page(outputs))
    return path


def page(outputs: Path) -> str:
    """The page, from the folders alone."""
    studies = sorted((_study(path.parent) for path in (outputs / "ablations").glob("*/study.json")), key=_age)
    runs = sorted((_run(path.parent) for path in (outputs / "runs").glob("*/run.json")), key=_age)
    return template("index.html.jinja").render(studies=studies[::-1], runs=runs[::-1])


def _age(one: dict[str, Any]) -> tuple[str, str]:
    return one["when"], one["name"]


def _study(folder: Path) -> dict[str, Any]:
    found = _whole(folder / "comparison.json")
    answers = [one["answer"][0]["text"] for one in found.get("strata", []) if one.get("answer")]
    runs = found.get("runs", [])
    done = sum(run["status"] == "finished" for run in runs)
    when = max((row["at"] for row in read_rows(folder / "ledger.jsonl")), default=0.0)
    return {
        "name": folder.name,
        "href": _link("ablations", folder),
        "answers": answers or ["not compared yet"],
        "runs": f"{done} of {len(runs)}" if runs else "",
        "time": format_duration(found["seconds"]) if found.get("seconds") else "",
        "when": f"{when:017.3f}",
    }


def _run(folder: Path) -> dict[str, Any]:
    summary, facts = _whole(folder / "summary.json"), _whole(folder / "run.json")
    loss, params = summary.get("val/loss"), summary.get("params")
    return {
        "name": folder.name,
        "href": _link("runs", folder),
        "loss": f"{loss:.4f}" if loss is not None else "",
        "params": f"{params:,}" if params else "",
        "steps": f"{summary['steps']:,}" if "steps" in summary else "",
        "time": format_duration(summary["time/total_s"]) if "time/total_s" in summary else "",
        "status": summary.get("status") or ("at work" if RunFolder(folder).is_busy() else "unfinished"),
        "when": facts.get("started", ""),
    }


def _link(pool: str, folder: Path) -> str:
    """Relative, so that the folder may be moved."""
    return quote(f"{pool}/{folder.name}/report.html") if (folder / "report.html").exists() else ""


def _whole(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except (OSError, Refused):
        return {}
