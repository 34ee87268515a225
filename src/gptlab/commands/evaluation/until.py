"""Texts written up to a stop, in batches, as lm-evaluation-harness's tasks of generation ask for them."""

import json
from collections.abc import Sequence
from typing import Any

import torch

from gptlab.corpus.tokenizer import Tokenizer
from gptlab.errors import Refused
from gptlab.generation.generate import generate
from gptlab.model.decoder import Decoder

MAX_TOKENS = 256
"""Tokens of a text whose task names no number, as in the harness's own models."""
Prompt = tuple[Sequence[int], dict[str, Any]]
"""Tokens of a prompt, and the options of its task (generation_kwargs)."""


def write_until(decoder: Decoder, tokenizer: Tokenizer, prompts: Sequence[Prompt], max_rows: int) -> list[str]:
    """Return the text after each prompt, in order, without the stop that ends it."""
    groups: dict[str, list[int]] = {}
    for number, (_, options) in enumerate(prompts):
        # one batch has one way of drawing
        groups.setdefault(json.dumps(options, sort_keys=True, default=str), []).append(number)
    texts = [""] * len(prompts)
    for numbers in groups.values():
        options = prompts[numbers[0]][1]
        for start in range(0, len(numbers), max_rows):
            batch = numbers[start : start + max_rows]
            rows = [torch.tensor(prompts[number][0]) for number in batch]
            for number, text in zip(batch, _write_batch(decoder, tokenizer, rows, options), strict=True):
                texts[number] = text
    return texts


def _write_batch(
    decoder: Decoder, tokenizer: Tokenizer, rows: list[torch.Tensor], options: dict[str, Any]
) -> list[str]:
    stops, length, drawing = read_options(options)
    device = decoder.embedding.weight.device
    written = [b""] * len(rows)
    done = [False] * len(rows)
    for tokens in generate(decoder, [row.to(device) for row in rows], length, **drawing):
        for row, token in enumerate(tokens.tolist()):
            if not done[row]:
                written[row] += tokenizer.pieces[token]
                done[row] = any(stop in written[row] for stop in stops)
        if all(done):
            break
    return [cut_at_stop(text, stops) for text in written]


def cut_at_stop(text: bytes, stops: Sequence[bytes]) -> str:
    """Return a text up to the first of its stops."""
    ends = [text.index(stop) for stop in stops if stop in text]
    return text[: min(ends, default=len(text))].decode(errors="replace")


def read_options(options: dict[str, Any]) -> tuple[list[bytes], int, dict[str, Any]]:
    """Return stops, tokens to write, and how to draw; raise Refused for an option that generation does not know."""
    left = dict(options)
    until = left.pop("until", None) or []
    stops = [stop.encode() for stop in ([until] if isinstance(until, str) else until) if stop]
    lengths = [left.pop(name, None) for name in ("max_gen_toks", "max_new_tokens", "max_tokens")]
    length = next((int(number) for number in lengths if number is not None), MAX_TOKENS)
    draws = left.pop("do_sample", None)
    temperature = left.pop("temperature", None)
    # as in the harness: without do_sample the likeliest token is taken, whatever else is said
    greedy = not draws if draws is not None else not temperature
    drawing: dict[str, Any] = {"temperature": 0.0 if greedy else float(temperature or 1.0)}
    drawing |= {name: left.pop(name) for name in ("top_k", "top_p") if name in left}
    if left:
        names = ", ".join(f"{name}={value}" for name, value in sorted(left.items()))
        raise Refused(f"--tasks: generation_kwargs {names} are not known here; leave them out of the task's YAML")
    return stops, length, drawing
