"""One cell of a study, wherever a launcher put it: it looks once more whether the run is there, and trains it if not.

Whatever happens is an event in the study's ledger; only a signal goes on upwards: it is meant for the whole study.
"""

import subprocess
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from gptlab.ablation.gpu_share import share
from gptlab.config.menu import CONF
from gptlab.config.recipe import Recipe
from gptlab.errors import Ended, Refused
from gptlab.runs.record import read
from gptlab.runs.study_folder import Ledger, locked


def work(path: Path) -> None:
    """Does what a cell's file says, unless another process is at it."""
    ledger, key = Ledger(path.parents[1]), path.stem
    cell = read(path)
    with locked(ledger.lock(key)) as owner:
        if owner is not None:
            ledger.note(key, "running", owner=owner)
            return
        recipe = Recipe(cell["config"], cell["choices"], tuple(cell["differs"]))
        over, unfinished = ledger.found(key, recipe, ledger.asked["reuse"])
        if over is not None:
            ledger.take(key, over)
            return
        share(cell["jobs"], ledger.outputs / "locks")
        if unfinished is not None:
            recipe = replace(recipe, config={**recipe.config, "resume": str(unfinished)})
        _train(ledger, key, recipe, cell["overrides"])


def _train(ledger: Ledger, key: str, recipe: Recipe, overrides: list[str], again: bool = False) -> None:
    """Trains a cell and notes how it ended. Out of an accelerator's memory it is tried once more, in halves."""
    last: list[Path] = []

    def opened(folder: Path) -> None:
        last.append(folder)
        ledger.note(key, "running", run=folder.name, steps=recipe.config["steps"])

    ledger.note(key, "running")
    try:
        alone(recipe, overrides, opened)
    except Ended as ended:
        if ended.status > 128:
            ledger.note(key, "stopped", run=last[-1].name if last else "")
            raise SystemExit(ended.status) from ended
        _failed(ledger, key, last, str(ended), ended)
    except Exception as error:  # also Refused: a cell that cannot run is a row, and the others go on
        if not again and _out_of_memory(error):
            halves = {**recipe.config, "accumulate": 2 * recipe.config["accumulate"], "resume": None}
            ledger.note(key, "retried", reason=_line(error), accumulate=halves["accumulate"])
            return _train(ledger, key, replace(recipe, config=halves), overrides, again=True)
        _failed(ledger, key, last, _line(error), error)
    else:
        ledger.note(key, "finished", run=last[-1].name)
    return None


def alone(recipe: Recipe, overrides: list[str], opened: Any) -> None:
    """Runs a recipe here or, if it wants several devices, by train.py, which starts a process for each."""
    trainer = recipe.config["trainer"]
    if trainer["devices"] * trainer["nodes"] == 1:
        from gptlab.training.run import run

        run(recipe, quiet=True, opened=opened)
        return
    resume = recipe.config["resume"]
    words = [f"resume={resume}"] if resume else [*overrides, f"accumulate={recipe.config['accumulate']}"]
    done = subprocess.run(
        [sys.executable, str(CONF.parent / "train.py"), *words], capture_output=True, text=True, check=False
    )
    said = done.stdout.strip().splitlines()
    if said and Path(said[-1]).is_dir():
        opened(Path(said[-1]))
    if done.returncode:
        line = (done.stderr.strip().splitlines() or [f"train.py ended with {done.returncode}"])[-1]
        raise Ended(line.removeprefix("error: "), done.returncode)


def _failed(ledger: Ledger, key: str, last: list[Path], reason: str, error: BaseException) -> None:
    """Notes a failure and where to read of it: the run's log, or one in the study's folder."""
    folder = last[-1] if last else None
    if folder is not None and (folder / "summary.json").exists():  # diverged
        ledger.take(key, folder, reused=False)
        return
    log = (
        folder / "log.txt"
        if folder is not None and (folder / "log.txt").exists()
        else ledger.folder / "logs" / f"{key}.txt"
    )
    if log.parent == ledger.folder / "logs":
        log.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    ledger.note(key, "failed", run=folder.name if folder else "", reason=reason, log=str(log))


def _line(error: BaseException) -> str:
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text if isinstance(error, Refused | Ended) else f"{type(error).__name__}: {text}"


def _out_of_memory(error: BaseException) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError)
