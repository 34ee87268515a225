"""Laws of speculative writing: the large decoder's own distribution, whatever the draft is."""

from functools import cache
from typing import Any

import pytest
import torch
from conftest import SIZES, VOCAB, decoder, perturb, tokens
from scipy import stats
from test_generate import CONTEXT, written
from torch import Tensor

from gptlab import compose as wiring
from gptlab.errors import Refused
from gptlab.generation.speculative import accept_guesses, speculate
from gptlab.model.decoder import Decoder

CASES = ["", "attention=swa position=alibi", "attention=mla", "attention=shared position=learned"]


def draft(*more: str) -> Decoder:
    """A smaller decoder of the same tokens."""
    made = wiring.build_decoder(wiring.compose([*SIZES, "model.layers=1", *more]), VOCAB).double().eval()
    perturb(made, 0.1)
    return made


def speculated(model: Decoder, small: Decoder, prompt: Tensor, length: int, **how: Any) -> Tensor:
    """(1, length)."""
    return torch.stack(list(speculate(model, small, prompt, length, **how)), 1)


@cache
def greedy(case: str) -> Tensor:
    """(1, 2 C + 9) what a decoder writes alone."""
    return written(decoder(case), tokens(1, 5), 2 * CONTEXT + 9, temperature=0)


@pytest.mark.few(4)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("small", ["itself", "model.context=64", "model.context=16", "attention=swa"])
def test_greedy_tokens_are_those_of_the_decoder_alone(case: str, small: str):
    model = decoder(case)
    guesser = model if small == "itself" else draft(small)
    assert (speculated(model, guesser, tokens(1, 5), 2 * CONTEXT + 9, temperature=0) == greedy(case)).all()


def test_its_own_guesses_are_all_kept():
    model, passes = decoder(), []
    model.blocks[0].register_forward_pre_hook(lambda *_: passes.append(1))
    speculated(model, model, tokens(1, 5), 21, temperature=0, guesses=6)
    assert len(passes) == 3 * 7  # three times six guesses, and a pass over them that has one more token to give


@pytest.mark.parametrize("apart", [0.0, 0.3, 3.0])
def test_kept_and_redrawn_tokens_have_the_decoders_chances(apart: float):
    random = torch.Generator().manual_seed(0)
    p = (torch.arange(6.0)[None].expand(2, -1) / 3).softmax(-1)
    q = (torch.arange(6.0)[None] / 3 * (1 - apart)).softmax(-1)
    counts = torch.zeros(6)
    for _ in range(4000):
        guess = torch.multinomial(q[0], 1, generator=random)
        kept, token = accept_guesses(guess, p, q, random)
        counts[int(guess if kept else token)] += 1
    assert stats.chisquare(counts.numpy(), 4000 * p[0].double().numpy() / p[0].double().sum().item()).pvalue > 0.001


@pytest.mark.slow
def test_texts_have_the_decoders_chances():
    model, small, given = decoder(), draft(), tokens(1, 3)
    how: dict[str, Any] = {"temperature": 2.0, "top_k": 4}
    alone = written(model, given.expand(1000, -1), 3, **how)
    ours = torch.cat([speculated(model, small, given, 3, **how, seed=seed, guesses=2) for seed in range(1000)])
    found = [torch.bincount(rows[:, -1] % 7, minlength=7).numpy() for rows in (alone, ours)]
    told: Any = stats.chi2_contingency([[a, b] for a, b in zip(*found, strict=True) if a + b])
    assert told.pvalue > 0.001


@pytest.mark.parametrize(
    ("model", "small", "how", "line"),
    [
        ("attention=linear", "", {}, "model: its attention is a recurrence, which cannot take a guess back"),
        ("", "attention=linear", {}, "draft: its attention is a recurrence, which cannot take a guess back"),
        ("", "", {"guesses": 0}, "guesses=0 asks nothing of the draft; try 4"),
        ("", "model.context=8", {}, "guesses=4 needs a draft of model.context=12, not 8"),
        ("", "", {"top_p": 2.0}, "top_p=2.0 is not in (0, 1]"),
    ],
)
def test_what_cannot_speculate_is_refused(model: str, small: str, how: dict[str, Any], line: str):
    with pytest.raises(Refused) as refused:
        speculate(decoder(model), draft(*small.split()), tokens(1, 5), 9, **how)
    assert str(refused.value).startswith(line)


def test_several_texts_and_other_tokens_are_refused():
    other = wiring.build_decoder(wiring.compose([*SIZES]), VOCAB + 1)
    with pytest.raises(Refused, match="draft has 32 tokens, not 31; take one of the same tokenizer"):
        speculate(decoder(), other, tokens(1, 5), 9)
    with pytest.raises(Refused, match="one text at a time, not 2"):
        speculate(decoder(), draft(), tokens(2, 5), 9)
