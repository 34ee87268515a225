"""Losses of ladders for decision accuracy: from studies' folders, or from the file that holds those of several."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from gptlab.errors import Refused
from gptlab.report.findings import compare_study_folder
from gptlab.report.measurement_folder import is_measurement_folder
from gptlab.runs.record import REMEDY, read_json
from gptlab.stats.ladder.decisions import LadderLosses, RungLosses
from gptlab.stats.metric_comparison import tabulate
from gptlab.stats.results import Findings, Stratum

VERSION = 1
"""Of the file; it grows when a key goes or changes its meaning."""
EXAMPLE = "python ablate.py 'ladder=[nano,micro]' attention=mha,gqa"


def read_ladders(paths: list[Path]) -> list[LadderLosses]:
    """Return the losses of studies and of files of losses, in their order.

    Raises Refused for what is neither, for a study of one size, and for a study that is given twice.
    """
    ladders: list[LadderLosses] = []
    for path in paths:
        ladders += read_document(path) if path.is_file() else [read_study_losses(path)]
    names = [ladder.study for ladder in ladders]
    for name in names:
        if names.count(name) > 1:
            raise Refused(f"{name} is given twice, so its decisions would count twice; name each study once")
    return ladders


def read_study_losses(folder: Path) -> LadderLosses:
    """Return the losses of a ladder study, at each arm's best rate where rates were tuned."""
    if not (folder / "study.json").exists():
        raise Refused(f"{folder} is no study and no file of losses; studies live in outputs/ablations")
    if is_measurement_folder(folder):
        raise Refused(f"{folder} trained nothing, so it decides nothing over sizes; give a ladder: {EXAMPLE}")
    return collect_losses(compare_study_folder(folder))


def collect_losses(findings: Findings) -> LadderLosses:
    """Return the losses of a ladder's findings; a rung counts once its baseline has a finished run."""
    plan = findings.plan
    strata = [stratum for size in plan.ladder for stratum in findings.strata if stratum.size == size]
    strata = [stratum for stratum in strata if _has_baseline(stratum)]
    if len(strata) < 2:
        ladder = f"the ladder {', '.join(plan.ladder)}" if plan.ladder else "no ladder"
        raise Refused(
            f"{findings.study} has {ladder}, and finished runs of its baseline at {len(strata)} rungs; decisions are "
            f"compared over two: {EXAMPLE}"
        )
    metrics = sorted({stratum.comparisons[0].metric.key for stratum in strata})
    if len(metrics) > 1:
        raise Refused(
            f"{findings.study}: {' and '.join(metrics)} decide at different rungs; set decides= to one of them"
        )
    baseline = strata[0].baseline
    return LadderLosses(
        study=findings.study,
        baseline=baseline,
        metric=metrics[0],
        tuned=plan.tune in ("grid", "transfer"),
        slots=_name_slots(findings, baseline),
        rungs=[_read_rung(stratum) for stratum in strata],
    )


def _has_baseline(stratum: Stratum) -> bool:
    return any(run.arm == stratum.baseline and run.status == "finished" for run in stratum.runs)


def _read_rung(stratum: Stratum) -> RungLosses:
    best = {tuning.arm: tuning.best for tuning in stratum.tunings if tuning.best is not None}
    runs = [run for run in stratum.runs if run.role == "arm" and run.lr == best.get(run.arm, run.lr)]
    values = next(run.values for run in runs if run.arm == stratum.baseline and run.status == "finished")
    return RungLosses(
        size=stratum.size,
        flops=values["flops_per_token"] * values["tokens"],
        losses=tabulate(runs, stratum.comparisons[0].metric.key),
    )


def _name_slots(findings: Findings, baseline: str) -> dict[str, str]:
    """Return the slot of each arm: of attention.window=8 it is attention; of several knobs all, joined by +."""
    slots = {}
    for arm in sorted({run.arm for run in findings.runs if run.role == "arm"} - {baseline}):
        # an arm of a file has a name alone; that may be spelled as a change: optimizer=lion
        knobs = [knob or value.partition("=")[0] for knob, value in findings.plan.get_values(arm)]
        slots[arm] = "+".join(dict.fromkeys(knob.split(".")[0] for knob in knobs))
    return slots


# -- the file


def to_document(ladders: list[LadderLosses]) -> dict[str, Any]:
    """Return the losses as plain data, which `read_document` reads."""
    return {"version": VERSION, "ladders": [asdict(ladder) for ladder in ladders]}


def read_document(path: Path) -> list[LadderLosses]:
    """Return the losses that a file holds."""
    document = read_json(path)
    if document.get("version") != VERSION:
        raise Refused(
            f"{path} is of version {document.get('version')}, and {VERSION} is read; write it anew with --data"
        )
    try:
        return [_read_ladder(ladder) for ladder in document["ladders"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Refused(f"{path} is no file of losses ({type(error).__name__}: {error}); {REMEDY}") from error


def _read_ladder(ladder: dict[str, Any]) -> LadderLosses:
    rungs = []
    for rung in ladder["rungs"]:
        losses: dict[str, dict[int, float]] = {}
        for arm, by_seed in rung["losses"].items():
            losses[arm] = {int(seed): float(loss) for seed, loss in by_seed.items()}
        rungs.append(RungLosses(**{**rung, "losses": losses}))
    return LadderLosses(**{**ladder, "rungs": rungs})
