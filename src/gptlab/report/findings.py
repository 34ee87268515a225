"""A study's findings from its folder alone, as often as one likes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from gptlab.report import collect as gather
from gptlab.runs.record import read_json
from gptlab.runs.study_folder import StudyFolder
from gptlab.stats.labels import find_arm
from gptlab.stats.matching import describe_mismatch
from gptlab.stats.results import Findings, Run
from gptlab.stats.study_comparison import compare_study


def compare(folder: Path, asked: dict[str, Any] | None = None) -> Findings:
    """What a study's runs say, from its folder alone; `asked` instead of its own question."""
    asked, runs = asked or StudyFolder(folder).plan, gather.study(folder)
    asked = {**asked, "minutes_per_cell": _minutes(runs)}
    path = folder / "timing.json"
    timed = read_json(path)["timed"] if path.exists() else None
    found = compare_study(asked["study"], asked, runs, timed)
    seconds = sum(run.values.get("time/total_s", 0.0) for run in runs)
    notes = [*asked["notes"], *found.notes, *_doubts(runs), *_looks(folder)]
    took = _time_trained(runs, asked["baseline"]) if asked["match"] == "time" else []
    return replace(found, mismatch=[*asked["mismatch"], *took], notes=notes, seconds=seconds)


def compare_any(folders: list[Path], baseline: str | None = None, pairs: bool = False) -> Findings:
    """One study as it is, or lone runs and the runs of several studies, by what they differ in."""
    if len(folders) == 1 and (folders[0] / "study.json").exists():
        asked = StudyFolder(folders[0]).plan
        asked |= {"baseline": find_arm(baseline, [*asked["arms"]])} if baseline else {}
        return compare(folders[0], {**asked, "pairs": asked["pairs"] or pairs})
    found = [run for folder in folders for run in _runs(folder)]
    runs = gather.lone([*dict.fromkeys(found)])
    arms = sorted({run.arm for run in runs})
    first = find_arm(baseline, arms) if baseline else runs[0].arm
    asked = {"baseline": first, "pairs": pairs, "seeds": sorted({run.seed for run in runs})}
    asked |= {"study": "comparison", "arms": {arm: [] for arm in arms}}
    compared = compare_study("comparison", asked, runs, None)
    seconds = sum(run.values.get("time/total_s", 0.0) for run in runs)
    return replace(compared, notes=[*compared.notes, *_doubts(runs)], seconds=seconds)


def pool(folders: list[Path]) -> Path | None:
    """Where the runs of these studies, and these runs, live; None if not all in one place."""
    where = {StudyFolder(one).pool if (one / "study.json").exists() else one.parent for one in folders}
    return where.pop() if len({one.resolve() for one in where}) == 1 else None


def _runs(folder: Path) -> list[Path]:
    """The runs of a study, or the run itself."""
    if not (folder / "study.json").exists():
        return [folder]
    pool = StudyFolder(folder).pool
    return [pool / run.folder for run in gather.study(folder) if run.folder and run.role == "arm"]


def _minutes(runs: list[Run]) -> dict[str, float]:
    """What a cell of each arm took."""
    taken: dict[str, list[float]] = {}
    for run in runs:
        if run.role == "arm" and run.status == "finished":
            taken.setdefault(f"{run.size}/{run.arm}".lstrip("/"), []).append(run.values["time/total_s"] / 60)
    return {arm: sum(minutes) / len(minutes) for arm, minutes in taken.items()}


def _time_trained(runs: list[Run], baseline: str) -> list[str]:
    """How far apart arms are in the seconds that their training took, which were to be equal."""
    told = []
    for size in dict.fromkeys(run.size for run in runs):
        taken: dict[str, list[float]] = {}
        for run in runs:
            if run.size == size and run.role == "arm" and run.status == "finished":
                taken.setdefault(run.arm, []).append(run.values["time/train_s"])
        means = {arm: {"seconds": sum(one) / len(one)} for arm, one in taken.items()}
        told += describe_mismatch(means, baseline) if baseline in means else []
    return told


def _looks(folder: Path) -> list[str]:
    """Adding seeds until a difference is found finds one in every seventh study of nothing."""
    events = [event for event in StudyFolder(folder).read_events() if event["status"] == "compared"]
    looks = list(dict.fromkeys(len(event["seeds"]) for event in events))
    if len(looks) < 2:
        return []
    told = ", ".join(map(str, looks))
    return [f"look {len(looks)} at this study, with {told} seeds: p is not corrected for looking again; see confirm="]


def _doubts(runs: list[Run]) -> list[str]:
    """What the runs have not in common, and should."""
    notes = []
    for fact, name in (
        ("device", "devices"),
        ("torch", "versions of torch"),
        ("data_sha256", "texts"),
        ("precision", "precisions"),
    ):
        values = sorted({run.facts[fact] for run in runs if fact in run.facts})
        if len(values) > 1:
            notes.append(f"the runs are of {len(values)} {name}: {', '.join(value[:24] for value in values)}")
    if other := [run.folder for run in runs if run.other_code]:
        notes.append(f"{len(other)} runs are of other code than today's (reuse=any_code): {', '.join(other[:3])}")
    return notes
