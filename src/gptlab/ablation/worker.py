"""One cell of a study, wherever a launcher put it: it looks once more whether the run is there, and trains it if not.

Whatever happens is an event in the study folder; only a signal goes on upwards: it is meant for the whole study.
"""

import os
import subprocess
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from gptlab.ablation.gpu_share import limit_to_share
from gptlab.ablation.ladder.trunks import drop_used_point, wait_for_trunk
from gptlab.config.menu import CONF
from gptlab.config.recipe import Recipe
from gptlab.corpus.load import CorpusCache
from gptlab.errors import Ended, Refused
from gptlab.runs.record import read_json
from gptlab.runs.study_folder import StudyFolder, lock_or_owner

CORPORA = CorpusCache()
"""Of all cells that this process runs."""


def run_cell(path: Path) -> None:
    """Run the cell of a file, unless another process is at it."""
    study_folder, key = StudyFolder(path.parents[1]), path.stem
    cell = read_json(path)
    with lock_or_owner(study_folder.lock_path(key)) as owner:
        # another process of this study, or of another on the same pool, trains this very run
        if owner is not None:
            study_folder.record_event(key, "running", owner=owner)
            return
        recipe = Recipe(cell["config"], cell["choices"], tuple(cell["differs"]))
        # looked up under the lock: it may have finished since the plan was made
        finished_run, unfinished = study_folder.find_runs(key, recipe, study_folder.plan.reuse)
        if finished_run is not None:
            study_folder.adopt_run(key, finished_run)
            return
        # before torch is imported, where the launcher has not done so: threads are settled then
        limit_to_share(cell["jobs"], study_folder.outputs / "locks")
        if unfinished is not None:
            recipe = replace(recipe, config={**recipe.config, "resume": str(unfinished)})
        elif trunk := cell.get("trunk"):  # cells of before 2026-12 have none
            folder = wait_for_trunk(study_folder, trunk, recipe)
            recipe = replace(recipe, config={**recipe.config, "trunk": folder and str(folder)})
        _train(study_folder, key, recipe, cell["overrides"])


def _train(study_folder: StudyFolder, key: str, recipe: Recipe, overrides: list[str], retrying: bool = False) -> None:
    """Train a cell and record how it ended. Out of an accelerator's memory it is tried once more, in halves."""
    folders: list[Path] = []

    def note_folder(folder: Path) -> None:
        folders.append(folder)
        study_folder.record_event(key, "running", run=folder.name, steps=recipe.config["steps"])

    study_folder.record_event(key, "running")
    try:
        train_recipe(recipe, overrides, note_folder)
    except Ended as ended:
        # a signal is meant for the whole study, so it goes on upwards; any other end is this cell's own
        if ended.status > 128:
            study_folder.record_event(key, "stopped", run=folders[-1].name if folders else "")
            raise SystemExit(ended.status) from ended
        record_failure(study_folder, key, folders, ended)
    except Exception as error:  # also Refused: a cell that cannot run is a row, and the others go on
        if not retrying and _is_out_of_memory(error):
            # twice the micro-batches, half of each in memory; the gradient is the same up to rounding
            halves = {**recipe.config, "accumulate": 2 * recipe.config["accumulate"], "resume": None, "trunk": None}
            study_folder.record_event(key, "retried", reason=_describe_error(error), accumulate=halves["accumulate"])
            return _train(study_folder, key, replace(recipe, config=halves), overrides, retrying=True)
        record_failure(study_folder, key, folders, error)
    else:
        study_folder.record_event(key, "finished", run=folders[-1].name)
        if recipe.config.get("trunk") and recipe.config["keep"] != "all":
            drop_used_point(folders[-1], Path(recipe.config["trunk"]))
    return None


def train_recipe(recipe: Recipe, overrides: list[str], note_folder: Any) -> None:
    """Train a recipe here or, if it wants several devices, by train.py, which starts a process for each."""
    trainer = recipe.config["trainer"]
    if trainer["devices"] * trainer["nodes"] == 1:
        from gptlab.training.run import run

        run(recipe, CORPORA.load(recipe), quiet=True, opened=note_folder)
        return
    resume = recipe.config["resume"]
    words = [f"resume={resume}"] if resume else [*overrides, f"accumulate={recipe.config['accumulate']}"]
    words += [f"trunk={trunk}"] if (trunk := recipe.config.get("trunk")) and not resume else []
    # a run of several processes starts them itself, which must not happen inside a worker
    status, printed, errors = run_program([sys.executable, str(CONF.parent / "train.py"), *words])
    output = printed.strip().splitlines()
    if output and Path(output[-1]).is_dir():
        note_folder(Path(output[-1]))
    if status:
        line = (errors.strip().splitlines() or [f"train.py ended with {status}"])[-1]
        raise Ended(line.removeprefix("error: "), status)


def run_program(words: list[str]) -> tuple[int, str, str]:
    """Run a program; return its status and what it said. A signal to this process ends it politely too.

    Slurm's variables are of the job that this process is, not of processes that the program starts (submitit).
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "PMI_"))}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        printed, errors = process.communicate()
    except BaseException:
        process.terminate()
        process.communicate()
        raise
    return process.returncode, printed, errors


def record_failure(study_folder: StudyFolder, key: str, folders: list[Path], error: BaseException) -> None:
    """Record a failure and where to read of it: the run's log, or one in the study's folder."""
    folder = folders[-1] if folders else None
    if folder is not None and (folder / "summary.json").exists():  # diverged
        study_folder.adopt_run(key, folder, reused=False)
        return
    log = folder / "log.txt" if folder is not None else None
    if log is None or not log.exists():
        log = study_folder.path / "logs" / f"{key}.txt"
        log.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    run, reason = folder.name if folder else "", _describe_error(error)
    study_folder.record_event(key, "failed", run=run, reason=reason, log=str(log))


def _describe_error(error: BaseException) -> str:
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text if isinstance(error, Refused | Ended) else f"{type(error).__name__}: {text}"


def _is_out_of_memory(error: BaseException) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError)
