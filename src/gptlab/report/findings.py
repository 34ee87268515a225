"""A study's findings from its folder alone, as often as one likes."""

from dataclasses import replace
from pathlib import Path

from gptlab.config.typecheck import conforms
from gptlab.errors import Refused
from gptlab.report.collect import collect_lone_runs, collect_study_runs
from gptlab.report.measurement_folder import is_measurement_folder
from gptlab.runs.record import read_json
from gptlab.runs.registration import describe_adherence
from gptlab.runs.study_folder import StudyFolder
from gptlab.stats.labels import find_arm
from gptlab.stats.matching import describe_mismatch
from gptlab.stats.results import Findings, Run
from gptlab.stats.study_comparison import compare_study, mark_exploratory
from gptlab.stats.study_plan import StudyPlan


def compare_study_folder(folder: Path, plan: StudyPlan | None = None) -> Findings:
    """Compare a study's runs, from its folder alone; `plan` replaces that of its study.json."""
    plan, runs = plan or StudyFolder(folder).plan, collect_study_runs(folder)
    # looks are in the ledger and not in the plan: they happen after it is written
    looked = StudyFolder(folder).read_looked()
    plan = replace(plan, looked=looked, budget_came_later=was_judged_without_budget(folder) and bool(plan.budget))
    times = _read_times(folder / "timing.json")
    findings = compare_study(plan, runs, times, _average_minutes(runs))
    mismatch = [*plan.mismatch]
    # the other quantities are counted before training; seconds are known after it
    if plan.match == "time":
        mismatch += _describe_time_mismatch(runs, plan.baseline or "")
    notes = [*plan.notes, *findings.notes, *_describe_differing_facts(runs), *_describe_unplanned_looks(plan)]
    notes += describe_adherence(folder, plan, runs)
    return replace(findings, mismatch=mismatch, notes=notes, seconds=_sum_seconds(runs))


def was_judged_without_budget(folder: Path) -> bool:
    """Whether a study was first judged without budgets, by its ledger; an older one does not say."""
    compared = (event for event in StudyFolder(folder).read_events() if event["status"] == "compared")
    return next(compared, {}).get("budget") == []


def _read_times(path: Path) -> dict[str, dict[str, list[float]]] | None:
    """Return the times by metric and arm of a study's timing session; None where it had none."""
    if not path.exists():
        return None
    times = read_json(path).get("timed")
    if not conforms(times, dict[str, dict[str, list[float]]]):
        raise Refused(f"{path} holds no times by arm; remove it, and the study's command times them again")
    return times


def compare_folders(folders: list[Path], baseline: str | None = None, pairs: bool = False) -> Findings:
    """Compare one study as it is, or lone runs and the runs of several studies by what they differ in.

    Raises Refused for a study that trained nothing: it has no runs to compare.
    """
    # a study that is named twice is that study, with its looks
    folders = list({folder.resolve(): folder for folder in folders}.values())
    for folder in filter(is_measurement_folder, folders):
        raise Refused(f"{folder} trained nothing, so it has no verdicts; {folder}/report.md says what was measured")
    if len(folders) == 1 and (folders[0] / "study.json").exists():
        return _compare_study_otherwise(folders[0], baseline, pairs)
    run_folders: dict[Path, None] = {}  # in order, each once: two studies may share runs
    for folder in folders:
        run_folders |= dict.fromkeys(_list_run_folders(folder))
    runs, arms = collect_lone_runs([*run_folders])
    seeds = sorted({run.seed for run in runs})
    plan = StudyPlan(
        # lone runs have no plan of looks, so they are judged once, with all of alpha
        study="comparison",
        baseline=find_arm(baseline, arms) if baseline else runs[0].arm,
        pairs=pairs,
        seeds=seeds,
        arms={arm: [] for arm in arms},
        arm_values=arms,
    )
    findings = compare_study(plan, runs)
    return replace(findings, notes=[*findings.notes, *_describe_differing_facts(runs)], seconds=_sum_seconds(runs))


def _compare_study_otherwise(folder: Path, baseline: str | None, pairs: bool) -> Findings:
    """Compare a study as it is, or with another baseline or in all pairs, which its looks have spent no alpha for."""
    plan = StudyFolder(folder).plan
    chosen = find_arm(baseline, plan.arm_values) if baseline else plan.baseline
    asked = replace(plan, baseline=chosen, pairs=plan.pairs or pairs)
    findings = compare_study_folder(folder, asked)
    if asked == plan:
        return findings
    asks = "all pairs" if chosen == plan.baseline else f"the others with {chosen}"
    note = f"The study did not ask to compare {asks}: these verdicts are exploratory."
    strata = [mark_exploratory(stratum) for stratum in findings.strata]
    return replace(findings, strata=strata, notes=[note, *findings.notes])


def find_pool(folders: list[Path]) -> Path | None:
    """Return where the runs of these studies, and these runs, live; None if not all in one place."""
    pools = {StudyFolder(folder).pool if (folder / "study.json").exists() else folder.parent for folder in folders}
    return pools.pop() if len({pool.resolve() for pool in pools}) == 1 else None


def _list_run_folders(folder: Path) -> list[Path]:
    """Return the runs of a study, or the run itself."""
    if not (folder / "study.json").exists():
        return [folder]
    pool = StudyFolder(folder).pool
    return [pool / run.folder for run in collect_study_runs(folder) if run.folder and run.role == "arm"]


def _sum_seconds(runs: list[Run]) -> float:
    return sum(run.values.get("time/total_s", 0.0) for run in runs)


def _average_minutes(runs: list[Run]) -> dict[str, float]:
    """Return the minutes of a cell, by size and arm."""
    minutes: dict[str, list[float]] = {}
    for run in runs:
        if run.role == "arm" and run.status == "finished":
            minutes.setdefault(f"{run.size}/{run.arm}".lstrip("/"), []).append(run.values["time/total_s"] / 60)
    return {arm: sum(values) / len(values) for arm, values in minutes.items()}


def _describe_time_mismatch(runs: list[Run], baseline: str) -> list[str]:
    """Return how far apart arms are in the seconds of training, which were to be equal."""
    lines = []
    for size in dict.fromkeys(run.size for run in runs):
        seconds: dict[str, list[float]] = {}
        for run in runs:
            if run.size == size and run.role == "arm" and run.status == "finished":
                seconds.setdefault(run.arm, []).append(run.values["time/train_s"])
        means = {arm: {"seconds": sum(values) / len(values)} for arm, values in seconds.items()}
        lines += describe_mismatch(means, baseline) if baseline in means else []
    return lines


def _describe_unplanned_looks(plan: StudyPlan) -> list[str]:
    """Return a warning where a study without a plan of looks was compared with several numbers of seeds.

    Adding seeds until a difference is found finds one in every seventh study of nothing.
    """
    if plan.looks or len(plan.looked) < 2:
        return []
    number, counts = len(plan.looked), ", ".join(map(str, plan.looked))
    return [f"look {number} at this study, with {counts} seeds: p is not corrected for looking again; see looks="]


def _describe_differing_facts(runs: list[Run]) -> list[str]:
    """Return a line for each fact that the runs should share and do not: device, torch, text, precision, code."""
    notes = []
    for fact, noun in (
        ("device", "devices"),
        ("torch", "versions of torch"),
        ("data_sha256", "texts"),
        ("precision", "precisions"),
    ):
        # a task has a text of its own
        sizes = {run.size for run in runs} if fact == "data_sha256" else {None}
        for size in sorted(sizes, key=str):
            values = sorted({run.facts[fact] for run in runs if fact in run.facts and size in (None, run.size)})
            if len(values) > 1:
                notes.append(f"the runs are of {len(values)} {noun}: {', '.join(value[:24] for value in values)}")
    if reused := [run.folder for run in runs if run.other_code]:
        notes.append(f"{len(reused)} runs are of other code than today's (reuse=any_code): {', '.join(reused[:3])}")
    return notes
