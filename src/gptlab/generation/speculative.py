"""A small decoder guesses, the large one reads all guesses in one pass: the same distribution in fewer passes.

A guess x, drawn by the draft with chance q(x), is kept with chance min(1, p(x) / q(x)); the first one that is not kept
is drawn anew from max(0, p - q), made to sum to 1; if all are kept, the pass has one more token to give. What is
written has the chances p of the large decoder alone, for any draft (Leviathan 2023, arXiv:2211.17192; Chen 2023,
arXiv:2302.01318). At temperature 0 the tokens are those of `generate`.

Guesses that were not kept are taken back from the memories. A recurrence cannot take back, and is refused.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from gptlab.errors import Refused
from gptlab.generation.generate import DecodingState
from gptlab.generation.sampler import Sampler
from gptlab.model.decoder import Decoder


def speculate(
    decoder: Decoder,
    draft: Decoder,
    prompt: Tensor,
    length: int,
    *,
    guesses: int = 4,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
) -> Iterator[Tensor]:
    """Continues one prompt (1, T) by `length` tokens; yields each (1,). Both decoders have one vocabulary."""
    draw = Sampler(temperature, top_k, top_p)
    refuse_bad(decoder, draft, prompt, guesses)
    reader, guesser = (DecodingState(one, prompt, length + guesses, spare=guesses + 1) for one in (decoder, draft))
    return _written(reader, guesser, draw, length, guesses, torch.Generator(prompt.device).manual_seed(seed))


def _written(
    reader: DecodingState, guesser: DecodingState, draw: Sampler, length: int, guesses: int, random: torch.Generator
) -> Iterator[Tensor]:
    while length:
        many = max(0, min(guesses, length - 1, reader.context - reader.held[0]))  # a full context is cropped first
        guessed, q = guess(guesser, draw, many, random)
        for token in guessed:
            reader.add(token)
        p = draw.chances(reader.read(last=False)[0, -1 - many :])
        kept, token = judged(torch.cat([*guessed, reader.texts[0, :0]]), p, q, random)
        for one in (reader, guesser):
            one.take_back(many - kept)
            one.add(token)
        yield from (*guessed[:kept], token)
        length -= kept + 1


def guess(guesser: DecodingState, draw: Sampler, many: int, random: torch.Generator) -> tuple[list[Tensor], Tensor]:
    """So many tokens (1,), and the chances (many, V) that each was drawn with."""
    tokens, chances = [], [torch.empty(0, guesser.decoder.shape.tokens, device=guesser.texts.device)]
    for _ in range(many):
        chances.append(draw.chances(guesser.read()[:, -1]))
        tokens.append(torch.multinomial(chances[-1], 1, generator=random)[:, 0])
        guesser.add(tokens[-1])
    return tokens, torch.cat(chances)


def judged(guessed: Tensor, p: Tensor, q: Tensor, random: torch.Generator) -> tuple[int, Tensor]:
    """Guesses (N,), their chances by the decoder (N + 1, V) and by the draft (N, V): how many are kept, and the token
    (1,) that comes after these."""
    rows = torch.arange(len(guessed), device=guessed.device)
    lucky = torch.rand(len(guessed), generator=random, device=guessed.device) * q[rows, guessed] < p[rows, guessed]
    kept = int(lucky.long().cumprod(0).sum())
    rest = (p[kept] - q[kept]).clamp(min=0) if kept < len(guessed) else p[kept]
    # Where p and q are one but for rounding, nothing is left: then p itself is the right distribution.
    return kept, torch.multinomial(rest if rest.sum() > 0 else p[kept], 1, generator=random)


def refuse_bad(decoder: Decoder, draft: Decoder, prompt: Tensor, guesses: int) -> None:
    """Refuses several texts at once, another vocabulary, and what cannot take back."""
    if prompt.shape[0] != 1:
        raise Refused(f"speculative decoding writes one text at a time, not {prompt.shape[0]}; leave the draft out")
    if guesses < 1:
        raise Refused(f"guesses={guesses} asks nothing of the draft; try 4")
    if draft.shape.tokens != decoder.shape.tokens:
        raise Refused(
            f"draft has {draft.shape.tokens} tokens, not {decoder.shape.tokens}; take one of the same tokenizer"
        )
    if draft.shape.context < 2 * (guesses + 2):
        raise Refused(
            f"guesses={guesses} needs a draft of model.context={2 * (guesses + 2)}, not {draft.shape.context}"
        )
    for name, one in (("draft", draft), ("model", decoder)):
        for cache in one.new_cache(1, 1):
            if cache is not None and not hasattr(cache, "rewind"):
                raise Refused(
                    f"{name}: its attention is a recurrence, which cannot take a guess back; use another draft"
                )
