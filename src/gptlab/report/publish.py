"""Publishing a study or a run: pages beside it, and in W&B a run of its own and a report.

All of it is safe to repeat: what is there already stays or is written again under the same id.
"""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gptlab.config.recipe import Recipe, Tracking
from gptlab.errors import Ended, Refused
from gptlab.report import measurement_folder
from gptlab.report.findings import compare_study_folder
from gptlab.report.index import save_index
from gptlab.report.model import Report
from gptlab.report.render import wandb_report
from gptlab.report.render.card_image import IMAGE_NAME, save_card_image
from gptlab.report.render.html import PAGE_NAME, save_page
from gptlab.report.render.markdown import render_markdown
from gptlab.report.render.wandb_summary import list_summaries, make_summary_id, upload_summary
from gptlab.report.run import build_run_report
from gptlab.report.study import build_study_report
from gptlab.report.text.view import make_views
from gptlab.runs import tracker
from gptlab.runs.record import REMEDY, read_json, to_json, write_atomically
from gptlab.runs.study_folder import StudyFolder
from gptlab.runs.wandb_environment import find_api_key
from gptlab.stats.results import Comparison, Findings

FILES = ("report.html", "report.md", "comparison.json", "results.csv", wandb_report.SPEC_NAME)
"""What is uploaded with a study's summary, as far as it is there."""

# -- pages


def write_pages(findings: Findings, folder: Path, pool: Path | None) -> Report:
    """Write report.md, report.html and report.png into a folder, and the index of what lies beside its runs' pool."""
    report = build_study_report(findings, pool)
    write_atomically(folder / "report.md", render_markdown(report))
    save_page(report, folder)
    if make_views(findings):  # some run finished, so there is something to draw
        save_card_image(findings, folder / IMAGE_NAME)
    if pool is not None:
        save_index(pool.parent)
    return report


def rebuild_page(folder: Path, warn: Callable[[str], None]) -> Path:
    """Write the page of a study or of a run once more, a study's W&B report beside it, and return the page's path."""
    if measurement_folder.is_measurement_folder(folder):
        measurement_folder.save_measurement_report(measurement_folder.load_measurements(folder), folder)
    elif (folder / "study.json").exists():
        report = write_pages(compare_study_folder(folder), folder, StudyFolder(folder).pool)
        write_spec(folder, report, warn)
    else:
        save_page(build_run_report(folder), folder)
        save_index(folder.absolute().parent.parent)
    return folder / PAGE_NAME


# -- W&B


def read_tracking(folder: Path) -> Tracking:
    """Return how the runs of a study are tracked, as its first cell says."""
    if not (folder / "study.json").exists():
        raise Refused(f"{folder} is no study: it holds no study.json; studies live in outputs/ablations")
    cells = [*StudyFolder(folder).read_cells().values()]
    if not cells:
        raise Refused(f"{folder / 'study.json'} names no cells; {REMEDY}")
    return Recipe(cells[0]["config"]).settings.tracking


def publish_summary(folder: Path, findings: Findings, report: Report, warn: Callable[[str], None]) -> None:
    """Write the study's own run in W&B, in the mode of its runs, and the spec of its report.

    Offline nothing is written where both are there and would say the same: W&B takes half of a repetition's time.
    """
    tracking, study_folder = read_tracking(folder), StudyFolder(folder)
    # as the runs were tracked: a summary online of runs offline would stand alone
    mode = tracker.choose_mode(tracking)
    if mode == "disabled":
        return
    comparisons = [comparison for stratum in findings.strata for comparison in stratum.comparisons]
    tables, numbers = build_summary_tables(comparisons), build_summary_numbers(findings)
    layout = Path(wandb_report.__file__).read_text(encoding="utf-8")
    content = [layout, mode, asdict(tracking), render_markdown(report), tables, numbers]
    digest = hashlib.sha256(to_json(content).encode()).hexdigest()
    is_there = (folder / wandb_report.SPEC_NAME).exists() and list_summaries(study_folder.outputs, findings.study)
    if mode == "offline" and is_there and _read_published(study_folder) == digest:
        return
    write_spec(folder, report, warn)
    files = {name.replace(".", "-"): folder / name for name in FILES if (folder / name).exists()}
    is_written = upload_summary(
        mode,
        study_folder.outputs,
        tracking,
        findings.study,
        tables=tables,
        summary=numbers,
        files=files,
        failed=any(run.status != "finished" for run in findings.runs),
        warn=warn,
    )
    if is_written:
        study_folder.record_event("", "published", digest=digest)


def _read_published(study_folder: StudyFolder) -> str:
    """Return the digest of what was last published of a study, or nothing."""
    digests = [str(event.get("digest")) for event in study_folder.read_events() if event["status"] == "published"]
    return digests[-1] if digests else ""


def write_spec(folder: Path, report: Report, warn: Callable[[str], None]) -> None:
    """Write the spec of a study's W&B report, or say which extra that takes."""
    try:
        wandb_report.save_spec(report, folder, read_tracking(folder))
    except Refused as refused:
        warn(f"no {wandb_report.SPEC_NAME}: {refused}")


def build_summary_tables(comparisons: list[Comparison]) -> dict[str, tuple[list[str], list[list[Any]]]]:
    """Return columns and rows of two tables: every arm in every metric, and every contrast.

    Contrasts have their intervals, which W&B cannot compute.
    """
    arms: list[dict[str, Any]] = []
    contrasts: list[dict[str, Any]] = []
    for comparison in comparisons:
        metric = comparison.metric.name
        arms += [{"metric": metric, **asdict(arm)} for arm in comparison.arms]
        for contrast in comparison.contrasts:
            contrasts.append({"metric": metric, **asdict(contrast), "seeds": len(contrast.seeds)})
    tables = {}
    for name, rows in (("ablation", arms), ("ablation_ci", contrasts)):
        if rows:
            tables[name] = ([*rows[0]], [[*row.values()] for row in rows])
    return tables


def build_summary_numbers(findings: Findings) -> dict[str, Any]:
    """Return flat numbers of the deciding metric: each arm's difference from the baseline and its verdict."""
    numbers: dict[str, Any] = {"cells": len(findings.runs), "time/total_s": findings.seconds}
    for stratum in findings.strata:
        prefix = f"{stratum.size}/" if stratum.size else ""
        for contrast in stratum.comparisons[0].contrasts:
            numbers[f"difference/{prefix}{contrast.arm}"] = contrast.difference
            numbers[f"verdict/{prefix}{contrast.arm}"] = contrast.label
    return numbers


def push_report(folder: Path) -> str:
    """Save a study's report online, the one of last time if there was one, and return its address."""
    tracking = read_tracking(folder)
    require_api_key()
    report = build_study_report(compare_study_folder(folder), StudyFolder(folder).pool)
    return wandb_report.push_report(report, folder, tracking)


def upload_offline_runs(folder: Path) -> list[Path]:
    """Upload the offline runs of a study as the command `wandb sync` does, and return their folders."""
    tracking, runs = read_tracking(folder), find_offline_runs(folder)
    require_api_key()
    target = ["--project", tracking.project, *(["--entity", tracking.entity] if tracking.entity else [])]
    for run in runs:
        # --include-online: runs whose service was lost in mid-run are online ones, which sync passes over
        command = [sys.executable, "-m", "wandb", "sync", "--include-online", *target, str(run)]
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        if process.returncode:
            # wandb tells its reason last, after lines of progress
            last_line = (process.stderr.strip() or process.stdout.strip() or "no word").splitlines()[-1]
            raise Ended(f"wandb sync {run}: {last_line}; repeat the command when that is mended")
    return runs


def require_api_key() -> None:
    """Refuse to go on without a key of W&B, which would ask for one on the terminal."""
    if not find_api_key():
        raise Refused("there is no W&B key of 40 characters; set WANDB_API_KEY (or run `wandb login`)")


def find_offline_runs(folder: Path) -> list[Path]:
    """Return W&B's folders of a study's runs and of its summary that `wandb sync` has not uploaded."""
    study_folder = StudyFolder(folder)
    run_folders = [study_folder.pool / state.run for state in study_folder.read_states().values() if state.run]
    ids = {_read_id(run) for run in run_folders if (run / "run.json").exists()}
    ids.add(make_summary_id(study_folder.outputs, study_folder.plan.study))
    offline = []
    # also online ones, whose service was lost
    for run in sorted((study_folder.outputs / "wandb").glob("*run-*")):
        belongs = any(run.name.endswith(f"-{run_id}") for run_id in ids)
        if belongs and not run.is_symlink() and not list(run.glob("*.synced")):
            offline.append(run)
    return offline


def _read_id(run: Path) -> str:
    """Return the name of a run in W&B."""
    run_id = read_json(run / "run.json").get("id")
    if not isinstance(run_id, str):
        raise Refused(f"{run}/run.json does not say what the run is called in W&B (id); {REMEDY}")
    return run_id
