"""Parts that a run is given: fixed before training starts, and never changed by it."""

import time
from dataclasses import dataclass, field

from gptlab.config.recipe import Recipe, Settings
from gptlab.console.terminal import Terminal
from gptlab.corpus.corpus import Corpus
from gptlab.runs.record import RunFolder
from gptlab.runs.tracker import Tracker
from gptlab.runs.unfinished import build_resume_command
from gptlab.training.distributed.process_group import ProcessGroup


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """The parts of a run that others read.

    fresh  False if the run goes on from a checkpoint, its own or that of the trunk it branches off
    began  monotonic time from which the run's minutes count
    """

    recipe: Recipe
    folder: RunFolder
    corpus: Corpus
    tracker: Tracker
    terminal: Terminal
    processes: ProcessGroup
    fresh: bool
    began: float = field(default_factory=time.monotonic)

    @property
    def settings(self) -> Settings:
        """The recipe's plain keys, typed."""
        return self.recipe.settings

    def resume_command(self) -> str:
        """Return the sentence that says how to resume this run."""
        return f"go on with: {build_resume_command(self.folder.path)}"
