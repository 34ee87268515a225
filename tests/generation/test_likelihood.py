"""Laws of log-likelihoods: batched they are what each is alone, and every token of a long text is scored once."""

import math

import pytest
import torch
from conftest import decoder

from gptlab.generation.generate import generate
from gptlab.generation.likelihood import Continuation, cut_windows, score_continuations
from gptlab.model.decoder import Decoder

CONTEXT = 12
SIZES = ("model.width=12", "model.heads=2", "model.layers=2", f"model.context={CONTEXT}", "bias=true")


@pytest.fixture(scope="module")
def small() -> Decoder:
    """A decoder in float64."""
    return decoder(sizes=SIZES)


def draw(*lengths: int) -> list[int]:
    return torch.randint(0, 31, lengths, generator=torch.Generator().manual_seed(sum(lengths))).tolist()


def score_alone(decoder: Decoder, prefix: list[int], tokens: list[int]) -> float:
    """One row, no padding, token by token."""
    total = 0.0
    for count in range(len(tokens)):
        before = [*prefix, *tokens[:count]][-CONTEXT:]
        logits = decoder.forward(torch.tensor([before])).logits
        assert logits is not None
        total += logits[0, -1].log_softmax(-1)[tokens[count]].item()
    return total


@pytest.mark.parametrize("case", ["", "attention=swa attention.window=3 position=alibi", "attention=gated_deltanet"])
@torch.no_grad()
def test_a_batch_of_many_lengths_scores_each_as_alone(case: str):
    model = decoder(case, SIZES)
    items = [Continuation(draw(before), draw(after)) for before, after in [(1, 1), (1, 9), (5, 2), (3, 7), (8, 4)]]
    scored = score_continuations(model, items)
    for item, likelihood in zip(items, scored, strict=True):
        assert likelihood.log_likelihood == pytest.approx(score_alone(model, [*item.prefix], [*item.tokens]), abs=1e-5)
    assert score_continuations(model, items, max_rows=2) == pytest.approx([pytest.approx(one) for one in scored])


@torch.no_grad()
def test_a_prefix_without_room_loses_its_beginning_and_says_so(small: Decoder):
    prefix, tokens = draw(20), draw(5)
    (cut,) = score_continuations(small, [Continuation(prefix, tokens)])
    (whole,) = score_continuations(small, [Continuation(prefix[-8:], tokens)])
    assert cut.log_likelihood == pytest.approx(whole.log_likelihood, abs=1e-9)
    assert (cut.lost, whole.lost) == (12, 0)


@pytest.mark.parametrize("length", [1, CONTEXT, CONTEXT + 1, 3 * CONTEXT + 5])
def test_windows_of_a_long_text_hold_every_token_once(length: int):
    text = draw(length)
    windows = [*cut_windows(Continuation([7], text), 0, CONTEXT)]
    assert [token for window in windows for token in window.targets] == text
    assert all(len(window.inputs) <= CONTEXT for window in windows)
    for window in windows:
        assert [*window.inputs, window.targets[-1]][-len(window.targets) :] == window.targets


def test_the_likeliest_continuation_is_greedy_and_another_is_not(small: Decoder):
    prompt = draw(4)
    greedy = [int(token) for token in generate(small, torch.tensor([prompt]), 5, temperature=0)]
    other = [*greedy[:-1], (greedy[-1] + 1) % 31]
    scored = score_continuations(small, [Continuation(prompt, greedy), Continuation(prompt, other)])
    assert [likelihood.is_greedy for likelihood in scored] == [True, False]
    assert scored[0].log_likelihood > scored[1].log_likelihood


def test_all_continuations_of_one_token_share_all_probability(small: Decoder):
    prompt = draw(3)
    scored = score_continuations(small, [Continuation(prompt, [token]) for token in range(31)])
    assert sum(math.exp(likelihood.log_likelihood) for likelihood in scored) == pytest.approx(1, abs=1e-5)


def test_nothing_before_a_text_is_refused(small: Decoder):
    with pytest.raises(ValueError, match="needs a token before it"):
        score_continuations(small, [Continuation([], [1])])
