"""Studies whose arms are measured together: a cell is a block, in this process, one after another. No run is made.

rows/<block>.json    what a block measured, with its code fingerprint and a stamp of the run whose weights it took;
                     a block that is there is not measured again
"""

import shutil
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from gptlab.ablation.plan import open_study_folder
from gptlab.ablation.question import StudySpec
from gptlab.ablation.study_json import start_study_plan
from gptlab.config.recipe import flatten, set_values
from gptlab.console.json_answer import add_to_answer
from gptlab.corpus.content import stamp_files
from gptlab.errors import Ended, Refused
from gptlab.report.measurement_folder import find_rows_path, report_measurements
from gptlab.runs.fingerprint import fingerprint
from gptlab.runs.record import read_json, to_json, write_atomically
from gptlab.runs.study_folder import StudyFolder, lock_or_owner
from gptlab.stats.study_plan import StudyPlan
from gptlab.training.build import build_decoder


class Origin(NamedTuple):
    """What a block's numbers are of, beside its question: the code, and the content of the run folder that it reads."""

    code: str
    run: str


def run_measurements(spec: StudySpec, console: Console) -> None:
    """Measure the blocks that are missing, then compare."""
    study, study_folder = spec.study, open_study_folder(spec)
    arms = [variant.key for variant in spec.variants]
    keys = {seed: f"{spec.name}-b{seed}" for seed in spec.options.blocks}
    origin = Origin(_fingerprint_study(spec), _stamp_run(spec))
    # before any block: a study may want packages, or arms of one shape
    study.check({variant.key: variant.recipe for variant in spec.variants})
    done = {seed for seed, key in keys.items() if _is_measured(study_folder, key, origin, spec.options.reuse)}
    console.print(f"{spec.name}: {len(arms)} arms together, {len(keys)} blocks, {len(done)} of them done")
    for note in spec.notes:
        console.print(f"  {note}", markup=False)
    if spec.options.dry_run:
        add_to_answer(study=spec.name, cells=len(keys), to_run=len(keys) - len(done))
        return
    is_new = not study_folder.path.exists()
    study_folder.save_plan(_make_study_plan(spec, keys), {key: _describe_block(seed) for seed, key in keys.items()})
    (study_folder.path / "rows").mkdir(exist_ok=True)
    failures = 0
    try:
        # one after another in this process: two at once would disturb each other's clocks
        for seed in [missing for missing in keys if missing not in done]:
            failures += not _measure_block(spec, study_folder, seed, keys[seed], origin=origin, console=console)
    except Refused:
        if is_new and not any((study_folder.path / "rows").iterdir()):  # what is refused leaves nothing
            shutil.rmtree(study_folder.path)
        raise
    except KeyboardInterrupt as stopped:
        measured = sum(_is_measured(study_folder, key, origin, "any_code") for key in keys.values())
        raise Ended(f"stopped: {measured} of {len(keys)} blocks done; the same command goes on", 130) from stopped
    report_measurements(study_folder.path, console)
    # what was measured is in the folder: comparison.json has the ratios, results.csv every number
    blocks = {"finished": len(keys) - failures, **({"failed": failures} if failures else {})}
    add_to_answer(folder=study_folder.path, study=spec.name, verdicts=[], blocks=blocks)
    if failures:
        raise Ended(f"{failures} of {len(keys)} blocks failed; the same command tries them again")


def _measure_block(
    spec: StudySpec, study_folder: StudyFolder, seed: int, key: str, *, origin: Origin, console: Console
) -> bool:
    """Measure one block and return whether that worked. A failure is an event with a log, and the others go on."""
    with lock_or_owner(study_folder.lock_path(key)) as owner:
        if owner is not None:
            raise Refused(f"{spec.name}: {owner} measures it; two at once would disturb each other's clocks")
        study_folder.record_event(key, "running")
        # those of another code or run: should this block fail, it has none
        find_rows_path(study_folder, key).unlink(missing_ok=True)
        began = time.perf_counter()
        try:
            arms = {variant.key: set_values(variant.recipe, seed=seed) for variant in spec.variants}
            with console.status(f"[dim]measuring block {seed}[/]"):
                rows = spec.study(arms, seed, build_decoder, study_folder.path)
        except Refused:
            study_folder.record_event(key, "stopped")
            raise
        except Exception as error:
            log = study_folder.path / "logs" / f"{key}.txt"
            log.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            study_folder.record_event(key, "failed", reason=reason, log=str(log))
            console.print(f"  block {seed} failed: {error}; see {log}", markup=False, soft_wrap=True)
            return False
        seconds = time.perf_counter() - began
        document = {**origin._asdict(), "seconds": seconds, "rows": [row._asdict() for row in rows]}
        write_atomically(find_rows_path(study_folder, key), to_json(document))
        study_folder.record_event(key, "finished")
        return True


def override_for_follow_up(fixed: dict[str, str], name: str, study: str) -> dict[str, str]:
    """Return the fixed overrides of a command line, for the study that follows one of that name."""
    overrides = {key: word for key, word in fixed.items() if not key.startswith("study.")}
    return {**overrides, "study": f"study={study}", "name": f"name={name}-{study}"}


def _is_measured(study_folder: StudyFolder, key: str, origin: Origin, reuse: str) -> bool:
    path = find_rows_path(study_folder, key)
    if not path.exists():
        return False
    rows = read_json(path)
    # with reuse=never too: rows in this folder are the study's own
    return rows.get("run", "") == origin.run and (reuse == "any_code" or rows["code"] == origin.code)


def _stamp_run(spec: StudySpec) -> str:
    """Return a stamp of the run whose weights a study takes, "" where it takes none."""
    run = spec.options.study.get("run")
    files = [Path(run) / name for name in ("config.yaml", "tokenizer.json", "checkpoints/last.ckpt")] if run else []
    present = [file for file in files if file.is_file()]  # one that is not there is refused when it is read
    return stamp_files(present, Path(spec.outputs) / "cache")


def _fingerprint_study(spec: StudySpec) -> str:
    """Return the code fingerprint of the study and of all parts of its arms."""
    modules: set[str] = set()
    # of the study itself too: a change in how it measures makes its rows stale
    for node in (spec.options.study, *(variant.recipe.config for variant in spec.variants)):
        for key, value in flatten(node).items():
            if key.endswith("_target_"):
                modules.add(str(value).rpartition(".")[0])
    return fingerprint(sorted(modules))


def _describe_block(seed: int) -> dict[str, Any]:
    return {"label": f"block {seed}", "seed": seed, "jobs": 1}


def _make_study_plan(spec: StudySpec, keys: dict[int, str]) -> StudyPlan:
    """Return the plan of a measuring study as study.json holds it; `keys` are those of its blocks by seed."""
    plan = start_study_plan(spec, spec.variants)
    return replace(plan, knobs=spec.options.study, cells=[*keys.values()])
