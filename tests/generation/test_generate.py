"""Laws of writing: caches change nothing, the context is no end, and what is drawn is drawn from what was asked."""

from typing import Any

import pytest
import torch
from conftest import SIZES, VOCAB, attentions, decoder, tokens
from torch import Tensor

from gptlab import compose as wiring
from gptlab.errors import Refused
from gptlab.generation.generate import DecodingState, generate
from gptlab.generation.sampler import Sampler
from gptlab.model.decoder import Decoder
from gptlab.model.mask import Mask
from gptlab.training.build import build_decoder

CASES = ["", "attention=swa position=alibi", "attention=mqa position=learned", "attention=local_global position=nope"]
CONTEXT = 64  # of every decoder in conftest


def written(model: Decoder, prompt: Tensor | list[Tensor], length: int, **how: Any) -> Tensor:
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
    model = build_decoder(wiring.compose([*SIZES, f"model.context={context}"]), VOCAB).eval()
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


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "how",
    [
        {"top_k": 1},
        {"top_p": 1e-9},
        {"top_p": 5e-324},
        {"temperature": 1e-6},
        {"temperature": 1e-40},
        {"temperature": 5e-324},
    ],
)
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
        ({"temperature": 1e-40}, [0, 0, 1.0, 0]),
        ({"temperature": 1e-40, "top_k": 3, "top_p": 0.5}, [0, 0, 1.0, 0]),
        ({"temperature": 1e300}, [0.25, 0.25, 0.25, 0.25]),
    ],
)
def test_draws_have_the_chances_asked_for(how: dict[str, Any], chances: list[float]):
    logits = torch.tensor([0.1, 0.2, 0.4, 0.3]).log().expand(20_000, -1)
    drawn = Sampler(**how).sample_token(logits, torch.Generator().manual_seed(0))
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


# -- prompts of several lengths


@pytest.mark.few(3)
@pytest.mark.parametrize("case", [*CASES, "attention=linear", "attention=shared position=sinusoidal"])
@pytest.mark.parametrize("cached", [True, False])
def test_prompts_of_several_lengths_are_continued_as_each_alone(case: str, cached: bool):
    model, prompts = decoder(case), [tokens(length, key=str(length)) for length in (3, CONTEXT - 2, 17, CONTEXT + 9)]
    together = written(model, prompts, 55, temperature=0, cached=cached)
    for prompt, row in zip(prompts, together, strict=True):
        assert (written(model, prompt[None], 55, temperature=0, cached=cached)[0] == row).all()


def test_padding_is_no_token_that_was_said():
    model, prompts = decoder(), [tokens(3, below=VOCAB - 1) + 1, tokens(9, below=VOCAB - 1) + 1]  # padding is token 0
    made = DecodingState(model, prompts, 5)
    assert made.find_present_tokens().sum(1).tolist() == [len({*row.tolist()}) for row in prompts]


# -- beyond the context


@pytest.mark.parametrize("case", ["", "position=alibi", "attention=mqa position=nope", "attention=mla"])
def test_sliding_is_a_window_of_one_context(case: str):
    model, given = decoder(case), tokens(2, CONTEXT - 9)
    said = torch.cat([given, written(model, given, 150, temperature=0, beyond="slide")], 1)
    for attention in attentions(model):
        attention.mask = Mask(CONTEXT)  # type: ignore[assignment]
    with torch.no_grad():
        logits = model(said).logits
    assert (logits[:, given.shape[1] - 1 : -1].argmax(-1) == said[:, given.shape[1] :]).all()


# -- the end, and what was said


def test_a_row_that_stops_repeats_its_last_token_and_all_end_early():
    model, given = decoder(), tokens(3, 5)
    plain = written(model, given, 40, temperature=0)
    stop = {int(plain[0, 4])}
    ends = [next((at for at, token in enumerate(row) if token in stop), 39) for row in plain.tolist()]
    said = written(model, given, 40, temperature=0, stop=stop)
    assert said.shape[1] == max(ends) + 1
    for row, whole, end in zip(said, plain, ends, strict=True):
        assert (row[: end + 1] == whole[: end + 1]).all()
        assert (row[end:] == whole[end]).all()


def test_repetition_makes_what_was_said_less_likely():
    draw, said = Sampler(repetition=2.0), torch.tensor([[True, True, False, False]])
    found = draw.penalize_repetition(torch.tensor([[1.0, -1.0, 1.0, -1.0]]), said)
    assert found.tolist() == [[0.5, -2.0, 1.0, -1.0]]
    model = decoder()
    text = tokens(1, 3)
    # Division leaves a said token's logit just above 0, so it comes again only where no other is likelier than that.
    for token in written(model, text, VOCAB - 3, temperature=0, repetition=1e9)[0].tolist():
        logits = model(text[:, -model.shape.context :]).logits[0, -1]
        fresh = torch.ones(VOCAB, dtype=torch.bool).scatter(0, text[0], False)
        if (logits[fresh] > 1e-6).any():
            assert token == logits.masked_fill(~fresh, -torch.inf).argmax()
        text = torch.cat([text, torch.tensor([[token]])], 1)


# -- compiled


@pytest.mark.parametrize(("case", "rows"), [("", 1), ("position=alibi", 2)])
def test_all_steps_of_all_texts_are_one_graph(case: str, rows: int):
    model, given = decoder(case, (*SIZES, "model.layers=1")), tokens(rows, 9)
    graphs: list[Any] = []

    def count(graph: torch.fx.GraphModule, _: list[Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    step = torch.compile(model.forward, backend=count, fullgraph=True)
    for length in (30, 30):
        said = written(model, given, length, temperature=0, step=step)
        assert (said == written(model, given, length, temperature=0)).all()
    assert len(graphs) == 1


# -- refusals


@pytest.mark.parametrize(
    ("case", "how", "line"),
    [
        ("", {"top_p": 1.1}, "top_p=1.1 is not in (0, 1]; 1 draws from all tokens; try 0.9"),
        ("", {"top_p": 0.0}, "top_p=0.0 is not in (0, 1]; 1 draws from all tokens; try 0.9"),
        ("", {"top_k": 0}, "top_k=0 leaves no token to draw; give 1 or more, or none"),
        ("", {"temperature": -1.0}, "temperature=-1.0 is not in [0, inf); 0 takes the likeliest token"),
        ("", {"temperature": float("nan")}, "temperature=nan is not in [0, inf); 0 takes the likeliest token"),
        ("", {"repetition": 0.0}, "repetition=0.0 is not in [1e-6, 1e9]; 1 changes nothing, 1.2 is usual"),
        ("", {"repetition": 1e-40}, "repetition=1e-40 is not in [1e-6, 1e9]; 1 changes nothing, 1.2 is usual"),
        ("", {"beyond": "slide", "cached": False}, "beyond=slide lets a cache forget, and cached=false has none; try"),
        ("position=learned", {"beyond": "slide"}, "beyond=slide: position (Learned) gives each place a vector of its"),
        ("position=sinusoidal", {"beyond": "slide"}, "beyond=slide: position (Sinusoidal) gives each place a vector"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is_read(case: str, how: dict[str, Any], line: str):
    with pytest.raises(Refused) as refused:
        generate(decoder(case), tokens(1, 5), 3, **how)
    assert str(refused.value).startswith(line)


@pytest.mark.parametrize("prompt", [torch.empty(1, 0, dtype=torch.long), []])
def test_no_prompt_is_no_text(prompt: Any):
    with pytest.raises(Refused, match="a row holds no token"):
        generate(decoder(), prompt, 3)
