"""Laws of writing: caches change nothing, the context is no end, and what is drawn is drawn from what was asked."""

from typing import Any

import pytest
import torch
from conftest import SIZES, VOCAB, decoder, tokens
from torch import Tensor

from gptlab import wiring
from gptlab.building import build
from gptlab.decoder import Decoder
from gptlab.generate import generate, pick

CASES = ["", "attention=swa position=alibi", "attention=mqa position=learned", "attention=local_global position=nope"]
CONTEXT = 64  # of every decoder in conftest


def written(model: Decoder, prompt: Tensor, length: int, **how: Any) -> Tensor:
    """(B, length)."""
    return torch.stack(list(generate(model, prompt, length, **how)), 1)


@torch.no_grad()
def greedy(model: Decoder, prompt: Tensor, length: int) -> Tensor:
    """The likeliest tokens by a whole pass for each; a context that is full begins again with its last half."""
    seen, begin, context = prompt, 0, model.shape.context
    for _ in range(length):
        if seen.shape[1] - begin > context:
            begin = seen.shape[1] - max(1, context // 2)
        seen = torch.cat([seen, model(seen[:, begin:]).logits[:, -1].argmax(-1, keepdim=True)], 1)
    return seen[:, prompt.shape[1] :]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("prompt", "length"), [(1, 20), (CONTEXT - 3, 50), (CONTEXT, 2), (CONTEXT + 1, 3), (200, 40)])
def test_greedy_with_caches_is_the_likeliest_of_whole_passes(case: str, prompt: int, length: int):
    model, given = decoder(case), tokens(3, prompt)
    assert (written(model, given, length, temperature=0) == greedy(model, given, length)).all()


@pytest.mark.parametrize("case", CASES)
def test_without_caches_the_same_is_written_inside_the_context(case: str):
    model, given = decoder(case), tokens(3, 5)
    cached, uncached = (written(model, given, CONTEXT - 5, temperature=0, cached=way) for way in (True, False))
    assert (cached == uncached).all()


def test_without_caches_the_window_slides_by_one_beyond_the_context():
    model, given = decoder(), tokens(2, CONTEXT - 3)
    seen = given
    for token in written(model, given, 9, temperature=0, cached=False).T:
        assert (logits_of(model, seen[:, -CONTEXT:]).argmax(-1) == token).all()
        seen = torch.cat([seen, token[:, None]], 1)


@torch.no_grad()
def logits_of(model: Decoder, seen: Tensor) -> Tensor:
    """Of the token after the last, (B, V)."""
    return model(seen).logits[:, -1]


@pytest.mark.parametrize("context", [1, 2, 3])
def test_a_context_of_few_tokens_writes_on(context: int):
    model = build(wiring.compose([*SIZES, f"model.context={context}"]), VOCAB).eval()
    given = tokens(2, 5)
    assert (written(model, given, 9, temperature=0) == greedy(model, given, 9)).all()


def test_refuse_lets_the_context_be_filled_and_not_passed():
    model, given = decoder(), tokens(1, 60)
    assert written(model, given, 5, beyond="refuse").shape == (1, 5)
    with pytest.raises(ValueError, match=r"60 \+ 6 tokens go beyond model.context=64; try beyond=crop"):
        written(model, given, 6, beyond="refuse")


def test_same_seed_same_text_another_seed_another():
    model, given = decoder(), tokens(2, 5)
    torch.manual_seed(1)
    first = written(model, given, 30, seed=7)
    torch.manual_seed(2)
    assert (written(model, given, 30, seed=7) == first).all()
    assert (written(model, given, 30, seed=8) != first).any()


@pytest.mark.parametrize("how", [{"top_k": 1}, {"top_p": 1e-9}, {"temperature": 1e-6}])
def test_narrowest_choice_is_greedy(how: dict[str, Any]):
    model, given = decoder(), tokens(2, 5)
    assert (written(model, given, 80, **{"temperature": 5.0, **how}) == written(model, given, 80, temperature=0)).all()


def test_rows_of_a_batch_are_written_as_alone():
    model, given = decoder("attention=swa"), tokens(4, 5)
    alone = [written(model, row[None], 80, temperature=0) for row in given]
    assert (written(model, given, 80, temperature=0) == torch.cat(alone)).all()


@pytest.mark.parametrize(
    ("how", "chances"),
    [
        ({}, [0.1, 0.2, 0.4, 0.3]),
        ({"top_k": 2}, [0, 0, 4 / 7, 3 / 7]),
        ({"top_k": 9}, [0.1, 0.2, 0.4, 0.3]),
        ({"top_p": 0.69}, [0, 0, 4 / 7, 3 / 7]),
        ({"top_p": 0.71}, [0, 2 / 9, 4 / 9, 3 / 9]),
        ({"top_p": 1.0}, [0.1, 0.2, 0.4, 0.3]),
        ({"temperature": 0.5}, [1 / 30, 4 / 30, 16 / 30, 9 / 30]),
        ({"top_k": 3, "top_p": 0.5}, [0, 0, 4 / 7, 3 / 7]),
    ],
)
def test_draws_have_the_chances_asked_for(how: dict[str, Any], chances: list[float]):
    logits = torch.tensor([0.1, 0.2, 0.4, 0.3]).log().expand(20_000, -1)
    knobs = {"temperature": 1.0, "top_k": None, "top_p": None, **how}
    drawn = pick(logits, **knobs, random=torch.Generator().manual_seed(0))
    shares = torch.bincount(drawn, minlength=4) / 20_000
    torch.testing.assert_close(shares, torch.tensor(chances), atol=0.015, rtol=0)
    assert ((shares == 0) == (torch.tensor(chances) == 0)).all()


@pytest.mark.parametrize("training", [True, False])
def test_writing_leaves_the_decoder_and_the_random_state_alone(training: bool):
    model = decoder(sizes=(*SIZES, "dropout=0.5")).train(training)
    random, weights = torch.get_rng_state(), [p.clone() for p in model.parameters()]
    first = written(model, tokens(1, 5), 10, temperature=0)
    assert (first == greedy(model.eval(), tokens(1, 5), 10)).all()
    assert (torch.get_rng_state() == random).all()
    assert all((p == old).all() and p.grad is None for p, old in zip(model.parameters(), weights, strict=True))


def test_modes_come_back_between_tokens():
    model = decoder().train()
    for _ in generate(model, tokens(1, 5), 3):
        assert model.training
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
