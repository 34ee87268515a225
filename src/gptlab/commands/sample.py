"""A run's text from the command line: loaded, checked, written as it comes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from gptlab.corpus.load import tokens_of_prompt
from gptlab.corpus.tokenizer import Tokenizer
from gptlab.errors import Refused
from gptlab.generation.generate import Beyond, generate
from gptlab.generation.speculative import speculate
from gptlab.model.decoder import Decoder
from gptlab.restore import load


def stream(
    run: Path,
    which: str,
    prompt: str | None,
    length: int,
    draft: tuple[Path, int] | None,
    stop: str | None,
    beyond: Beyond,
    repetition: float,
    how: dict[str, Any],
) -> Iterator[str]:
    """The text as it comes; what cannot be written is refused at once. `draft`: a run, and how many tokens it guesses
    at a time; `how`: temperature, top_k, top_p, seed."""
    decoder, tokenizer = load(run, which)
    tokens = torch.from_numpy(tokens_of_prompt(prompt, tokenizer, "--prompt").astype("int64"))[None]
    if draft is None:
        stops = {int(one) for one in tokens_of_prompt(stop, tokenizer, "--stop")} if stop is not None else set()
        drawn = generate(decoder, tokens, length, repetition=repetition, stop=stops, beyond=beyond, **how)
    else:
        refuse_alone(stop, beyond, repetition)
        drawn = speculate(decoder, guesser(draft[0], tokenizer), tokens, length, guesses=draft[1], **how)
    return tokenizer.stream(int(token) for token in drawn)


def guesser(run: Path, tokenizer: Tokenizer) -> Decoder:
    """The decoder of a draft, whose tokens must be those of the run."""
    decoder, other = load(run)
    if other.pieces != tokenizer.pieces:
        raise Refused(f"--draft={run} has other tokens than the run; take one of the same tokenizer and text")
    return decoder


def refuse_alone(stop: str | None, beyond: Beyond, repetition: float) -> None:
    """Refuses what a draft's guesses are not judged by."""
    asked = {"--stop": stop is not None, "--beyond": beyond != "crop", "--repetition": repetition != 1}
    for option, given in asked.items():
        if given:
            raise Refused(f"{option} does not go with --draft; leave one of them out")
