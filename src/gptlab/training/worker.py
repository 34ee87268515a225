"""What every process of a run but the first does: it trains its part of each batch, writes nothing, says nothing."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from gptlab.build import build
from gptlab.config.recipe import Recipe
from gptlab.console.terminal import Terminal
from gptlab.corpus.corpus import Corpus
from gptlab.errors import Ended
from gptlab.runs.record import RunFolder
from gptlab.runs.tracker import Tracker
from gptlab.training.distributed import Ranks
from gptlab.training.session import Session
from gptlab.training.task import Diverged

NOWHERE = Path(os.devnull)


class Silent(RunFolder):
    """A record that keeps nothing."""

    def read_facts(self) -> dict[str, Any]:
        return {}

    def append_metrics(self, row: dict[str, Any]) -> None:
        pass

    def append_sample(self, row: dict[str, Any]) -> None:
        pass

    def log(self, text: str) -> None:
        pass


def follow(recipe: Recipe, corpus: Corpus, ranks: Ranks) -> None:
    """Trains along to the end. How a run ends, the first process says."""
    with NOWHERE.open("w") as nowhere:
        record = Silent(NOWHERE)
        terminal = Terminal(record, nowhere)
        mirror = Tracker("disabled", NOWHERE, recipe.settings.tracking, {})
        decoder = build(recipe, corpus.tokenizer.vocab, begins=True)
        session = Session(recipe, record, corpus, decoder, mirror, terminal, ranks, fresh=True)
        ranks.meet()
        plan = ranks.told(None)
        with suppress(Diverged, Ended, KeyboardInterrupt):
            if plan is not None:  # there may be nothing left to train
                session.train(plan)
