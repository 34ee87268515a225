"""Laws of a decoder that drafts for itself by the layers of readout=mtp: training's own numbers, and no other text."""

from typing import Any

import pytest
import torch
from conftest import VOCAB, decoder, tokens
from scipy import stats
from test_generate import CONTEXT, written
from torch import Tensor

from gptlab.errors import Refused
from gptlab.generation.self_draft import SelfDraft
from gptlab.generation.speculative import GuessCounts, speculate
from gptlab.model.decoder import Decoder

CASES = [
    "",
    "attention=swa position=alibi",
    "attention=mla",
    "attention=shared position=learned",
    "attention=gqa attention.short_conv=4 attention.window=5",
    "residual=hyper",
]


def drafted(model: Decoder, prompt: Tensor, length: int, **how: Any) -> Tensor:
    """(1, length)."""
    return torch.stack(list(speculate(model, "self", prompt, length, **how)), 1)


@pytest.mark.few(3)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("mtp", "prompt"), [(1, 5), (3, 1)])
def test_greedy_tokens_are_those_of_plain_decoding(case: str, mtp: int, prompt: int):
    model, given, counts = decoder(f"{case} readout=mtp readout.mtp={mtp}"), tokens(1, prompt), GuessCounts()
    length = CONTEXT + 29  # beyond the context, whose half is read again
    alone = written(model, given, length, temperature=0)
    assert (drafted(model, given, length, temperature=0, counts=counts) == alone).all()
    assert counts.passes + counts.accepted == length
    assert counts.accepted <= counts.guessed <= mtp * counts.passes


@pytest.mark.few(2)
@pytest.mark.parametrize("case", CASES)
def test_it_guesses_with_the_chances_that_training_gives_a_place(case: str, monkeypatch: pytest.MonkeyPatch):
    model, given, guesses = decoder(f"{case} readout=mtp readout.mtp=3"), tokens(1, 4), []
    guess = SelfDraft.guess

    def recorded(self: SelfDraft, *how: Any) -> tuple[list[Tensor], Tensor]:
        text = self.state.texts
        guessed, q = guess(self, *how)
        guesses.append((torch.cat([text, *(token[None] for token in guessed)], 1), q))
        return guessed, q

    monkeypatch.setattr(SelfDraft, "guess", recorded)
    drafted(model, given, 40)
    entered: list[Tensor] = []
    model.readout.head.register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))  # type: ignore[union-attr]
    compared = 0
    for text, q in guesses:
        for depth in range(1, len(q) + 1):
            # all that depth k reads to guess the last of these
            seen = text[:, : text.shape[1] - len(q) + depth - 1]
            entered.clear()
            model(seen, torch.zeros_like(seen))
            logits = model.readout(entered[depth][:, -1])
            torch.testing.assert_close(q[depth - 1], logits[0].softmax(-1).to(q.dtype), rtol=1e-5, atol=1e-7)
            compared += 1
    assert compared > 60


def test_a_layer_that_knows_what_comes_has_its_guesses_accepted():
    model, counts = decoder("readout=mtp readout.mtp=2"), GuessCounts()
    # the likeliest token is 7 after any text, for the decoder and for its layers ahead
    model.readout.head.bias = torch.nn.Parameter(torch.zeros(VOCAB).double().index_fill(0, torch.tensor([7]), 1e6))  # type: ignore[union-attr]
    assert (drafted(model, tokens(1, 3), 19, counts=counts) == 7).all()
    assert (counts.acceptance, counts.passes) == (1.0, 7)  # a pass over the prompt, then three tokens a pass


@pytest.mark.slow
def test_texts_have_the_decoder_s_chances():
    model, given = decoder("readout=mtp readout.mtp=2"), tokens(1, 3)
    how: dict[str, Any] = {"temperature": 2.0, "top_k": 4}
    alone = written(model, given.expand(1000, -1), 4, **how)
    ours = torch.cat([drafted(model, given, 4, **how, seed=seed) for seed in range(1000)])
    for place in (1, 3):
        found = [torch.bincount(rows[:, place] % 7, minlength=7).numpy() for rows in (alone, ours)]
        said: Any = stats.chi2_contingency([[a, b] for a, b in zip(*found, strict=True) if a + b])
        assert said.pvalue > 0.001


@pytest.mark.parametrize(
    ("case", "how", "line"),
    [
        ("", {}, "draft=self: readout.mtp=0, so no layer predicts further ahead; train with readout=mtp"),
        ("readout=mtp", {"guesses": 4}, "guesses=4 is more than the readout.mtp=1 of draft=self; try 1"),
        ("readout=mtp", {"guesses": 0}, "guesses=0 asks nothing of the draft"),
        ("readout=mtp attention=linear", {}, "model: its attention is a recurrence, which cannot take a guess back"),
    ],
)
def test_what_cannot_draft_for_itself_is_refused(case: str, how: dict[str, Any], line: str):
    with pytest.raises(Refused) as refused:
        speculate(decoder(case), "self", tokens(1, 5), 9, **how)
    assert str(refused.value).startswith(line)
