"""Speculative decoding: a small decoder guesses, the large one reads all guesses in one pass.

A guess x, drawn by the draft with probability q(x), is accepted with probability min(1, p(x) / q(x)); the first one
that is not accepted is drawn anew from max(0, p - q), normalized; if all are accepted, the pass gives one more token.
What is written has the probabilities p of the large decoder alone, for any draft (Leviathan 2023, arXiv:2211.17192;
Chen 2023, arXiv:2302.01318). At temperature 0 the tokens are those of `generate`.

Rejected guesses are removed from the caches. A recurrence cannot do that, and is refused.
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
    """Continue one prompt (1, T) by `length` tokens; yield each (1,). Both decoders have one vocabulary."""
    sampler = Sampler(temperature, top_k, top_p)
    refuse_bad_draft(decoder, draft, prompt, guesses)
    target_state, draft_state = (
        # the last guesses may reach beyond the end, and are taken back
        DecodingState(model, prompt, length + guesses, spare=guesses + 1)
        for model in (decoder, draft)
    )
    generator = torch.Generator(prompt.device).manual_seed(seed)
    return _speculate_tokens(target_state, draft_state, sampler, length, guesses, generator)


def _speculate_tokens(
    target_state: DecodingState,
    draft_state: DecodingState,
    sampler: Sampler,
    length: int,
    guesses: int,
    generator: torch.Generator,
) -> Iterator[Tensor]:
    while length:
        room = target_state.context - target_state.lengths[0]  # below 0 the context is full, and is cropped first
        # length - 1: the large decoder adds a token of its own to those that it accepts
        count = max(0, min(guesses, length - 1, room))
        guessed_tokens, q = sample_guesses(draft_state, sampler, count, generator)
        for token in guessed_tokens:
            target_state.append(token)
        p = sampler.probabilities(target_state.read(last=False)[0, -1 - count :])  # (count + 1, V)
        accepted, token = accept_guesses(torch.cat([*guessed_tokens, target_state.texts[0, :0]]), p, q, generator)
        # both now hold the same text, whatever the draft had thought
        for state in (target_state, draft_state):
            state.remove_last(count - accepted)
            state.append(token)
        yield from (*guessed_tokens[:accepted], token)
        length -= accepted + 1


def sample_guesses(
    draft_state: DecodingState, sampler: Sampler, count: int, generator: torch.Generator
) -> tuple[list[Tensor], Tensor]:
    """Draw `count` tokens (1,) from the draft; return them and the probabilities (count, V) they were drawn with."""
    tokens, probabilities = [], [torch.empty(0, draft_state.decoder.shape.tokens, device=draft_state.texts.device)]
    for _ in range(count):
        probabilities.append(sampler.probabilities(draft_state.read()[:, -1]))
        tokens.append(torch.multinomial(probabilities[-1], 1, generator=generator)[:, 0])
        draft_state.append(tokens[-1])
    return tokens, torch.cat(probabilities)


def accept_guesses(guessed_tokens: Tensor, p: Tensor, q: Tensor, generator: torch.Generator) -> tuple[int, Tensor]:
    """Return how many of the guesses (N,) are accepted, and the token (1,) that comes after these.

    p  probabilities by the large decoder, (N + 1, V)
    q  probabilities by the draft, (N, V)
    """
    rows = torch.arange(len(guessed_tokens), device=guessed_tokens.device)
    uniform = torch.rand(len(guessed_tokens), generator=generator, device=guessed_tokens.device)
    is_accepted = uniform * q[rows, guessed_tokens] < p[rows, guessed_tokens]  # uniform < p / q
    accepted = int(is_accepted.long().cumprod(0).sum())  # those before the first that is not
    remainder = (p[accepted] - q[accepted]).clamp(min=0) if accepted < len(guessed_tokens) else p[accepted]
    # Where p and q are one but for rounding, nothing is left: then p itself is the right distribution.
    return accepted, torch.multinomial(remainder if remainder.sum() > 0 else p[accepted], 1, generator=generator)


def refuse_bad_draft(decoder: Decoder, draft: Decoder, prompt: Tensor, guesses: int) -> None:
    """Refuse several prompts at once, another vocabulary, a draft of too short a context, and recurrences."""
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
    for name, model in (("draft", draft), ("model", decoder)):
        for cache in model.new_cache(1, 1):
            if cache is not None and not hasattr(cache, "rewind"):
                raise Refused(
                    f"{name}: its attention is a recurrence, which cannot take a guess back; use another draft"
                )
