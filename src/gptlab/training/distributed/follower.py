"""Every process of a run but the first: it trains its part of each batch, writes nothing, says nothing."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from gptlab.config.recipe import Recipe
from gptlab.console.terminal import Terminal
from gptlab.corpus.corpus import Corpus
from gptlab.errors import Ended
from gptlab.model.decoder import Decoder
from gptlab.runs.parent_process import end_with_parent
from gptlab.runs.record import RunFolder
from gptlab.runs.tracker import Tracker
from gptlab.training.build import build_decoder
from gptlab.training.context import RunContext
from gptlab.training.distributed.process_group import ProcessGroup
from gptlab.training.setup import TrainingSetup
from gptlab.training.task import Diverged

NOWHERE = Path(os.devnull)


class SilentFolder(RunFolder):
    """A run folder that keeps nothing."""

    def read_facts(self) -> dict[str, Any]:
        return {}

    def append_metrics(self, row: dict[str, Any]) -> None:
        pass

    def append_sample(self, row: dict[str, Any]) -> None:
        pass

    def log(self, text: str) -> None:
        pass


def follow_first_process(
    recipe: Recipe,
    corpus: Corpus,
    processes: ProcessGroup,
    make_setup: Callable[[RunContext, Decoder], TrainingSetup],
) -> None:
    """Train along to the end, with the setup and callbacks of the first process, which says how a run ends.

    Should that one be killed, this one ends too.
    """
    end_with_parent()
    with NOWHERE.open("w") as nowhere:
        folder = SilentFolder(NOWHERE)
        context = RunContext(
            recipe=recipe,
            folder=folder,
            corpus=corpus,
            tracker=Tracker("disabled", NOWHERE, recipe.settings.tracking, identity={}),
            terminal=Terminal(folder, nowhere),
            processes=processes,
            fresh=True,
        )
        # the same seed gives the same weights as in the first process: none are sent
        decoder = build_decoder(recipe, corpus.tokenizer.vocab, load_start=True)
        setup = make_setup(context, decoder)
        processes.start()
        # the first process's, which alone has read the folder
        plan = processes.broadcast(None)
        # all processes stop at the same step; the first one says why
        with suppress(Diverged, Ended, KeyboardInterrupt):
            if plan is not None:  # there may be nothing left to train
                setup.fit(plan)
