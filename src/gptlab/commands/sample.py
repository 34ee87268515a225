"""Sample from a run on the command line: load, check, and write the text as it comes."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from gptlab.corpus.load import tokenize_prompt
from gptlab.corpus.tokenizer import Tokenizer
from gptlab.errors import Refused
from gptlab.generation.generate import Beyond, generate
from gptlab.generation.speculative import GuessCounts, speculate
from gptlab.model.decoder import Decoder
from gptlab.training.restore import load_run


@dataclass
class DraftOptions:
    """Who guesses for a run, and what came of it.

    run      a smaller run's folder, or self: the layers of the run's own readout=mtp
    guesses  tokens that are guessed at a time; None is 4, or of self all that it can
    counts   are filled in as the text comes
    """

    run: Path | Literal["self"]
    guesses: int | None
    counts: GuessCounts = field(default_factory=GuessCounts)


def stream_text(
    run: Path,
    which: str,
    prompt: str | None,
    *,
    length: int,
    draft: DraftOptions | None,
    stop: str | None,
    beyond: Beyond,
    repetition: float,
    sampling: dict[str, Any],
) -> Iterator[str]:
    """Yield the text as it comes; what cannot be written is refused at once.

    sampling  temperature, top_k, top_p, seed
    """
    decoder, tokenizer = load_run(run, which)
    tokens = torch.from_numpy(tokenize_prompt(prompt, tokenizer, "--prompt").astype("int64"))[None]
    if draft is None:
        stops = {int(token) for token in tokenize_prompt(stop, tokenizer, "--stop")} if stop is not None else set()
        tokens_written = generate(decoder, tokens, length, repetition=repetition, stop=stops, beyond=beyond, **sampling)
    else:
        # before the draft is loaded
        refuse_with_draft(stop, beyond, repetition)
        drafting = draft.run if isinstance(draft.run, str) else load_draft(draft.run, tokenizer)
        tokens_written = speculate(
            decoder, drafting, tokens, length, guesses=draft.guesses, counts=draft.counts, **sampling
        )
    return tokenizer.stream(int(token) for token in tokens_written)


def load_draft(run: Path, tokenizer: Tokenizer) -> Decoder:
    """Return the decoder of a draft, whose tokens must be those of the run."""
    decoder, other = load_run(run)
    # by the pieces, not by their number: equal sizes of other tokens would be accepted and mean other text
    if other.pieces != tokenizer.pieces:
        raise Refused(f"--draft={run} has other tokens than the run; take one of the same tokenizer and text")
    return decoder


def refuse_with_draft(stop: str | None, beyond: Beyond, repetition: float) -> None:
    """Refuse options that the guesses of a draft are not judged by."""
    options = {"--stop": stop is not None, "--beyond": beyond != "crop", "--repetition": repetition != 1}
    for option, given in options.items():
        if given:
            raise Refused(f"{option} does not go with --draft; leave one of them out")


def print_texts(prompt: str, texts: Iterable[str]) -> str:
    """Print a prompt, and texts as they come; return the texts in one."""
    print(prompt, end="", flush=True)
    written = ""
    for text in texts:
        # at once, as it comes: the reader sees the speed of the model
        print(text, end="", flush=True)
        written += text
    print()
    return written


def report_guesses(counts: GuessCounts) -> dict[str, int | float | None]:
    """Print on stderr what came of a draft's guesses; return it for programs."""
    if counts.acceptance is not None:
        line = f"draft: {counts.accepted} of {counts.guessed} guesses accepted ({counts.acceptance:.0%})"
        print(f"{line}, {counts.passes} passes", file=sys.stderr)
    return {**asdict(counts), "acceptance": counts.acceptance}
