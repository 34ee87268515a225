"""gptlab: one GPT decoder whose every part is a Hydra choice, its trainer, and an ablation engine."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gptlab.corpus.tokenizer import Tokenizer
    from gptlab.model.decoder import Decoder


def load(run: str | Path, which: str = "last") -> "tuple[Decoder, Tokenizer]":
    """Return a run's decoder, in eval mode on the CPU with its `last` or `best` weights, and its tokenizer."""
    from gptlab.restore import load_run

    return load_run(run, which)
