"""Every choice is fed as its parts expect: nothing is drowned or deaf at birth, but for a few that are named."""

import pytest
import torch
from conftest import PARTS, choices, composed, recipe

from gptlab.model.scale_check import describe_odd_ratios, measure_initial_ratios
from gptlab.training.build import build_decoder

SIZES = {"nano": ("model=nano",), "micro": ("model=micro",)}
VOCAB = 65
CHOICES = [f"{slot}={choice}" for slot in (*PARTS, "init") for choice in choices(slot)]
CHANGES = [
    ["change=[quantize]", f"format@change.quantize.weight={choice}"]
    for choice in choices("format")
    if choice != "binary"
]
CHANGES += [[f"change=[{choice}]"] for choice in choices("change") if choice != "quantize"]

EXCEPTIONS = {
    "attention=differential": "its own norm gives a branch a size that does not shrink with the values",
    "block=no_mlp_residual": "no residual leads around the MLP: that is what it asks",
    "residual=post": "the norm after the sum makes the stream 1 at once, beside which GPT-2-like branches are small",
    "residual=rezero": "the decoder starts as the identity: that is what it asks",
    "norm=none": "nothing makes what a branch reads larger: that is what it asks",
    "mlp=xielu": "0.8 x^2 + 0.5 x, its published start, is larger than other activations at the same x",
    "init=zero_out": "the decoder starts as embedding and head: that is what it asks",
    "init=torch": "PyTorch's start does not make what writes into the stream smaller",
    "change=[identity]": "an identity in the place of `out` is as large as what enters it: that is what it asks",
}


def ratios(words: list[str]) -> dict[str, float]:
    """Of the newborn decoder of a command line."""
    return measure_initial_ratios(build_decoder(composed(*words), VOCAB))


@pytest.mark.parametrize("size", SIZES)
def test_every_part_is_fed_as_it_expects_but_for_the_named_exceptions(size: str):
    usual = ratios([*SIZES[size]])
    for case in CHOICES:
        odd = describe_odd_ratios(measure_initial_ratios(build_decoder(recipe(case, SIZES[size]), VOCAB)), usual)
        assert not odd or case in EXCEPTIONS, (case, odd)


@pytest.mark.few(6)
@pytest.mark.parametrize("words", CHANGES, ids=" ".join)
def test_every_change_leaves_a_decoder_that_is_fed(words: list[str]):
    odd = describe_odd_ratios(ratios(["model=nano", *words]), ratios(["model=nano"]))
    assert not odd or words[-1] in EXCEPTIONS, odd


@pytest.mark.parametrize("case", EXCEPTIONS)
def test_an_exception_is_one(case: str):
    assert any(describe_odd_ratios(ratios([*size, case]), ratios([*size])) for size in SIZES.values())


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (
            ["init=gpt2", "position=sinusoidal", "position.scale=1"],
            "what the position adds is 34.8 x the tokens at birth",
        ),
        (["residual=sandwich", "residual.unit_embeddings=false"], "x the stream that it writes into at birth"),
        (["init=torch", "init.embedding_std=1"], "x that of knowing nothing"),
        (
            [
                "init=gpt2",
                "change=[quantize]",
                "format@change.quantize.weight=integer",
                "change.quantize.weight.fraction_width=null",
            ],
            "of the rounded weights are 0 at birth",
        ),
        (
            [
                "change=[quantize]",
                "format@change.quantize.weight=binary_residual",
                "change.quantize.weight.gamma=learnt",
            ],
            "x their size at birth",
        ),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_what_was_fed_wrongly_once_is_found(words: list[str], wanted: str):
    assert any(wanted in line for line in describe_odd_ratios(ratios(["model=nano", *words]), ratios(["model=nano"])))


def test_measuring_leaves_a_decoder_as_it_was():
    made = build_decoder(composed("model=nano", "dropout=0.1"), VOCAB).train()
    before, state = {name: p.clone() for name, p in made.state_dict().items()}, torch.get_rng_state()
    first, again = measure_initial_ratios(made), measure_initial_ratios(made)
    assert first == again
    assert made.training
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(p, before[name]) for name, p in made.state_dict().items())
    assert "write" not in vars(made.layers[0].attention_residual)
