"""Speculative decoding: a draft guesses, the decoder reads all guesses in one pass.

A guess x, drawn by the draft with probability q(x), is accepted with probability min(1, p(x) / q(x)); the first one
that is not accepted is drawn anew from max(0, p - q), normalized; if all are accepted, the pass gives one more token.
What is written has the probabilities p of the decoder alone, for any draft (Leviathan 2023, arXiv:2211.17192; Chen
2023, arXiv:2302.01318). At temperature 0 the tokens are those of `generate`.

The draft is a smaller decoder, or the decoder's own layers that predict further ahead (self_draft.py). Rejected guesses
are removed from the caches. A recurrence cannot do that, and is refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from gptlab.errors import Refused
from gptlab.generation.generate import DecodingState
from gptlab.generation.sampler import Sampler
from gptlab.generation.self_draft import SelfDraft
from gptlab.model.decoder import Decoder

GUESSES = 4
"""Tokens that a smaller decoder guesses at a time, if nobody says otherwise."""


@dataclass
class GuessCounts:
    """What came of the guesses so far.

    passes    of the decoder
    guessed   tokens that the draft guessed
    accepted  those of them that stayed
    """

    passes: int = 0
    guessed: int = 0
    accepted: int = 0

    @property
    def acceptance(self) -> float | None:
        """Share of guesses that were accepted; None before the first guess."""
        return self.accepted / self.guessed if self.guessed else None


class Draft(Protocol):
    """What guesses the next tokens of a text."""

    def guess(self, count: int, sampler: Sampler, generator: torch.Generator) -> tuple[list[Tensor], Tensor]:
        """Draw up to `count` tokens (1,); return them and the probabilities (N, V) that they were drawn with."""
        ...

    def settle(self, rejected: int, token: Tensor) -> None:
        """Take back the last guesses, and append the token (1,) that comes instead."""
        ...


class DecoderDraft:
    """Another decoder as the draft, with caches of its own."""

    def __init__(self, state: DecodingState) -> None:
        self.state = state

    def guess(self, count: int, sampler: Sampler, generator: torch.Generator) -> tuple[list[Tensor], Tensor]:
        tokens, state = [], self.state
        probabilities = [torch.empty(0, state.decoder.shape.tokens, device=state.texts.device)]
        for _ in range(count):
            probabilities.append(sampler.probabilities(state.read()[:, -1]))
            tokens.append(torch.multinomial(probabilities[-1], 1, generator=generator)[:, 0])
            state.append(tokens[-1])
        return tokens, torch.cat(probabilities)

    def settle(self, rejected: int, token: Tensor) -> None:
        self.state.remove_last(rejected)
        self.state.append(token)


def speculate(
    decoder: Decoder,
    draft: Decoder | Literal["self"],
    prompt: Tensor,
    length: int,
    *,
    guesses: int | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    counts: GuessCounts | None = None,
) -> Iterator[Tensor]:
    """Continue one prompt (1, T) by `length` tokens; yield each (1,). Both decoders have one vocabulary.

    draft    another decoder, or self: the layers of readout=mtp
    guesses  tokens that the draft guesses at a time; None is 4, or of self all that it can
    counts   is filled in as tokens come
    """
    sampler = Sampler(temperature=temperature, top_k=top_k, top_p=top_p)
    if guesses is None:
        guesses = len(decoder.ahead_layers) if draft == "self" else GUESSES
    refuse_bad_draft(decoder, draft, prompt, guesses)
    # the last guesses may reach beyond the end, and are taken back
    most, spare = length + guesses, guesses + 1
    target_state = DecodingState(decoder, prompt, most, spare=spare, keep_hidden=isinstance(draft, str))
    guesser: Draft
    if isinstance(draft, str):
        guesser = SelfDraft(target_state)
    else:
        guesser = DecoderDraft(DecodingState(draft, prompt, most, spare=spare))
    generator = torch.Generator(prompt.device).manual_seed(seed)
    return _speculate_tokens(
        target_state,
        guesser,
        sampler,
        length=length,
        guesses=guesses,
        generator=generator,
        counts=counts or GuessCounts(),
    )


def _speculate_tokens(
    target_state: DecodingState,
    draft: Draft,
    sampler: Sampler,
    *,
    length: int,
    guesses: int,
    generator: torch.Generator,
    counts: GuessCounts,
) -> Iterator[Tensor]:
    while length:
        room = target_state.context - target_state.lengths[0]  # below 0 the context is full, and is cropped first
        # length - 1: the decoder adds a token of its own to those that it accepts
        guessed_tokens, q = draft.guess(max(0, min(guesses, length - 1, room)), sampler, generator)
        count = len(guessed_tokens)
        # all guesses are read in one pass, which gives the probabilities at each of them
        for token in guessed_tokens:
            target_state.append(token)
        p = sampler.probabilities(target_state.read(last=False)[0, -1 - count :])  # (count + 1, V)
        guessed = torch.cat([*guessed_tokens, target_state.texts[0, :0]])  # (count,), also of none
        accepted, token = accept_guesses(guessed, p, q, generator)
        # both now hold the same text, whatever the draft had thought
        target_state.remove_last(count - accepted)
        target_state.append(token)
        draft.settle(count - accepted, token)
        counts.passes += 1
        counts.guessed += count
        counts.accepted += accepted
        yield from (*guessed_tokens[:accepted], token)
        length -= accepted + 1


def accept_guesses(guessed_tokens: Tensor, p: Tensor, q: Tensor, generator: torch.Generator) -> tuple[int, Tensor]:
    """Return how many of the guesses (N,) are accepted, and the token (1,) that comes after these.

    p  probabilities by the large decoder, (N + 1, V)
    q  probabilities by the draft, (N, V)
    """
    rows = torch.arange(len(guessed_tokens), device=guessed_tokens.device)
    uniform = torch.rand(len(guessed_tokens), generator=generator, device=guessed_tokens.device)
    is_accepted = uniform * q[rows, guessed_tokens] < p[rows, guessed_tokens]  # uniform < p / q
    accepted = int(is_accepted.long().cumprod(0).sum())  # those before the first that is not
    probabilities = p[accepted]
    if accepted < len(guessed_tokens):
        # what p has and q has not: with the accepted guesses the text is distributed as p alone (Leviathan 2023)
        remainder = (p[accepted] - q[accepted]).clamp(min=0)
        # where p and q are one but for rounding, nothing is left: then p itself is the right distribution
        probabilities = remainder if remainder.sum() > 0 else probabilities
    return accepted, torch.multinomial(probabilities, 1, generator=generator)


def refuse_bad_draft(decoder: Decoder, draft: Decoder | Literal["self"], prompt: Tensor, guesses: int) -> None:
    """Refuse several prompts at once, another vocabulary, a draft of too short a context, and recurrences."""
    if prompt.shape[0] != 1:
        raise Refused(f"speculative decoding writes one text at a time, not {prompt.shape[0]}; leave the draft out")
    if isinstance(draft, str):
        refuse_missing_heads(decoder, guesses)
    if guesses < 1:
        raise Refused(f"guesses={guesses} asks nothing of the draft; try 4")
    if not isinstance(draft, str):
        if draft.shape.tokens != decoder.shape.tokens:
            raise Refused(
                f"draft has {draft.shape.tokens} tokens, not {decoder.shape.tokens}; take one of the same tokenizer"
            )
        if draft.shape.context < 2 * (guesses + 2):
            raise Refused(
                f"guesses={guesses} needs a draft of model.context={2 * (guesses + 2)}, not {draft.shape.context}"
            )
        refuse_recurrence("draft", draft)
    refuse_recurrence("model", decoder)


def refuse_missing_heads(decoder: Decoder, guesses: int) -> None:
    """Refuse a decoder that is to guess for itself and has no layers for it, or too few."""
    depths = len(decoder.ahead_layers)
    if not depths:
        raise Refused(
            "draft=self: readout.mtp=0, so no layer predicts further ahead; train with readout=mtp, or name a smaller "
            "run as the draft"
        )
    if guesses > depths:
        raise Refused(f"guesses={guesses} is more than the readout.mtp={depths} of draft=self; try {depths}")


def refuse_recurrence(name: str, decoder: Decoder) -> None:
    """Refuse a decoder whose caches cannot forget the last tokens alone."""
    for cache in decoder.new_cache(1, 1):
        if cache is not None and not hasattr(cache, "rewind"):
            raise Refused(f"{name}: its attention is a recurrence, which cannot take a guess back; use another draft")
