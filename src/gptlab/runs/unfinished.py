"""How far a run is that is not over, and the command that goes on with it. No torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptlab.config.menu import TRAIN
from gptlab.config.typecheck import quote_for_shell
from gptlab.console.units import relative_to_cwd
from gptlab.errors import Refused
from gptlab.runs.record import REMEDY, RunFolder, read_recipe, read_rows


@dataclass(frozen=True)
class UnfinishedRun:
    """A run without a summary: it was stopped or killed, or is at work now.

    step     of the last row of its log; None if that cannot be read
    steps    that it is to take
    at_work  a process trains it
    """

    folder: Path
    step: int | None
    steps: int
    at_work: bool

    def describe(self, weights: int | None = None) -> str:
        """Return a line: where it stands, and how to go on; `weights` is the step of those that are used."""
        used = "" if weights is None else f", and its weights here are those of step {weights:,}"
        where = f"{self.progress}{used}"
        if self.at_work:
            return f"{self.folder} is still at work: {where}"
        return f"{self.folder} is unfinished: {where}; go on with: {self.command}"

    @property
    def progress(self) -> str:
        """How far it is: step 35 of 40."""
        return f"step {'?' if self.step is None else f'{self.step:,}'} of {self.steps:,}"

    @property
    def command(self) -> str | None:
        """The command that goes on with it; None while another process does."""
        return None if self.at_work else build_resume_command(self.folder)

    def to_dict(self, weights: int | None = None) -> dict[str, Any]:
        """Return the same for programs."""
        facts = {
            "folder": str(relative_to_cwd(self.folder)),
            "step": self.step,
            "steps": self.steps,
            "at_work": self.at_work,
            "resume": self.command,
        }
        return facts if weights is None else {**facts, "weights_step": weights}


def find_unfinished(folder: Path) -> UnfinishedRun | None:
    """Return how far a run is; None for one that is over."""
    if (folder / "summary.json").exists():
        return None
    try:
        step = max((row.get("step", 0) for row in read_rows(folder / "metrics.jsonl")), default=0)
    except Refused:  # its weights may be whole
        step = None
    steps = read_recipe(folder).config.get("steps")
    if not isinstance(steps, int):
        raise Refused(f"{folder}: steps={steps!r} in its config.yaml is no number of steps; {REMEDY}")
    return UnfinishedRun(folder, step, steps, RunFolder(folder).is_busy())


def build_resume_command(folder: Path) -> str:
    """Return the command that goes on with a run."""
    return f"{TRAIN} resume={quote_for_shell(str(relative_to_cwd(folder)))}"
