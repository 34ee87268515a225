"""Where a study or a run is shown: as pages beside it, and in W&B as a run of its own and a report.

All of it is safe to repeat: what is there already stays or is written again under the same id.
"""

import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gptlab.config.recipe import Recipe, Tracking
from gptlab.errors import Ended, Refused
from gptlab.report import index, measurement_folder, study
from gptlab.report import run as single
from gptlab.report.findings import compare
from gptlab.report.model import Report
from gptlab.report.render import html as page
from gptlab.report.render import markdown
from gptlab.report.render import wandb_report as workspace
from gptlab.report.render.wandb_summary import summarize, summary_id
from gptlab.runs import tracker as tracking
from gptlab.runs.record import read_json, write_atomically
from gptlab.runs.study_folder import StudyFolder
from gptlab.stats.results import Comparison, Findings

FILES = ("report.html", "report.md", "comparison.json", "results.csv", "report.spec.json")
"""What is uploaded with a study's summary, as far as it is there."""


def settings(folder: Path) -> Tracking:
    """How the runs of a study are tracked, as its first cell says."""
    if not (folder / "study.json").exists():
        raise Refused(f"{folder} is no study: it holds no study.json; studies live in outputs/ablations")
    cell = next(iter(StudyFolder(folder).read_cells().values()))
    return Recipe(cell["config"]).settings.tracking


def pages(found: Findings, folder: Path, pool: Path | None) -> Report:
    """Writes report.md and report.html into a folder, and the index of what lies beside the pool of its runs."""
    report = study.report(found, pool)
    write_atomically(folder / "report.md", markdown.text(report))
    page.save(report, folder)
    if pool is not None:
        index.save(pool.parent)
    return report


def page_of(folder: Path) -> Path:
    """The page of a study or of a run, made once more."""
    if measurement_folder.trains_nothing(folder):
        measurement_folder.save(measurement_folder.compared(folder), folder)
    elif (folder / "study.json").exists():
        pages(compare(folder), folder, StudyFolder(folder).pool)
    else:
        page.save(single.report(folder), folder)
        index.save(folder.absolute().parent.parent)
    return folder / page.NAME


def sum_up(folder: Path, found: Findings, report: Report, say: Any) -> None:
    """The study's own run in W&B, in the mode of its runs, and the spec of its report."""
    how = settings(folder)
    mode = tracking.choose_mode(how)
    if mode == "disabled":
        return
    with suppress(Refused):  # an extra that is not installed; `push` says so
        workspace.keep(report, folder, how)
    comparisons = [one for stratum in found.strata for one in stratum.comparisons]
    files = {name.replace(".", "-"): folder / name for name in FILES if (folder / name).exists()}
    bad = any(run.status != "finished" for run in found.runs)
    summarize(
        mode, StudyFolder(folder).outputs, how, found.study, tables(comparisons), headline(found), files, bad, say
    )


def tables(comparisons: list[Comparison]) -> dict[str, tuple[list[str], list[list[Any]]]]:
    """Every arm in every metric, and every contrast with its interval, which W&B cannot compute."""
    arms = [{"metric": one.metric.name, **asdict(arm)} for one in comparisons for arm in one.arms]
    contrasts = [{"metric": one.metric.name, **asdict(contrast)} for one in comparisons for contrast in one.contrasts]
    rows = {"ablation": arms, "ablation_ci": [{**one, "seeds": len(one["seeds"])} for one in contrasts]}
    return {name: ([*found[0]], [[*row.values()] for row in found]) for name, found in rows.items() if found}


def headline(found: Findings) -> dict[str, Any]:
    """Flat numbers of the deciding metric: each arm's difference from the baseline and what it means."""
    flat: dict[str, Any] = {"cells": len(found.runs), "time/total_s": found.seconds}
    for stratum in found.strata:
        start = f"{stratum.size}/" if stratum.size else ""
        for contrast in stratum.comparisons[0].contrasts:
            flat[f"difference/{start}{contrast.arm}"] = contrast.difference
            flat[f"verdict/{start}{contrast.arm}"] = contrast.verdict
    return flat


def push(folder: Path) -> str:
    """Saves a study's report, the one of last time if there was one, and returns its address."""
    how = settings(folder)
    refuse_without_key()
    return workspace.push(study.report(compare(folder), StudyFolder(folder).pool), folder, how)


def sync(folder: Path) -> list[Path]:
    """Uploads the offline runs of a study as the command `wandb sync` does; returns which."""
    how, found = settings(folder), offline(folder)
    refuse_without_key()
    where = ["--project", how.project, *(["--entity", how.entity] if how.entity else [])]
    for run in found:
        words = [sys.executable, "-m", "wandb", "sync", "--include-online", *where, str(run)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            line = (done.stderr.strip() or done.stdout.strip() or "no word").splitlines()[-1]
            raise Ended(f"wandb sync {run}: {line}; repeat the command when that is mended")
    return found


def refuse_without_key() -> None:
    """Nothing here asks for one."""
    if not tracking.find_api_key():
        raise Refused("there is no W&B key of 40 characters; set WANDB_API_KEY (or run `wandb login`)")


def offline(folder: Path) -> list[Path]:
    """W&B's folders of a study's runs and of its summary that `wandb sync` has not uploaded."""
    study_folder = StudyFolder(folder)
    runs = [study_folder.pool / state.run for state in study_folder.read_states().values() if state.run]
    ids = {read_json(run / "run.json")["id"] for run in runs if (run / "run.json").exists()}
    ids.add(summary_id(study_folder.outputs, study_folder.plan["study"]))
    there = sorted((study_folder.outputs / "wandb").glob("*run-*"))  # also online ones, whose service was lost
    mine = [run for run in there if any(run.name.endswith(f"-{one}") for one in ids) and not run.is_symlink()]
    return [run for run in mine if not list(run.glob("*.synced"))]
