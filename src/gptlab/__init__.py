"""gptlab: one GPT decoder whose every part is a Hydra choice, its trainer, and an ablation engine."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gptlab.commands.python_study import Study as Study
    from gptlab.commands.python_study import list_runs as list_runs
    from gptlab.corpus.tokenizer import Tokenizer
    from gptlab.model.decoder import Decoder


def load(run: str | Path, which: str = "last") -> "tuple[Decoder, Tokenizer]":
    """Return a run's decoder, in eval mode on the CPU with its `last` or `best` weights, and its tokenizer."""
    from gptlab.training.restore import load_run

    return load_run(run, which)


def __getattr__(name: str) -> Any:
    """Import what is used from Python, `Study` and `list_runs`, only where it is used."""
    if name in ("Study", "list_runs"):
        from gptlab.commands import python_study

        return getattr(python_study, name)
    raise AttributeError(f"gptlab has no {name}")
