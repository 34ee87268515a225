"""The embedding slot: formulas token by token, borders, caches that take tokens back, and what stays the same."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from conftest import BATCH, SIZES, TIME, VOCAB, choices, composed, decoder, recipe, tokens

from gptlab import compose as wiring
from gptlab.config.recipe import Recipe
from gptlab.generation.generate import generate
from gptlab.generation.speculative import speculate
from gptlab.model.costs import count_costs, count_forward_flops
from gptlab.model.decoder import Decoder
from gptlab.training.build import build_on_meta
from gptlab.training.check import check_recipe

close = torch.testing.assert_close
LOOKING_BACK = ["smear", "bigram"]


def smear_by_hand(made: Decoder, text: list[int]) -> list[torch.Tensor]:
    rows: Any = [made.embedding.weight[token].detach() for token in text]
    share, gate = (p.detach() for p in (made.embedder.share, made.embedder.gate.weight))  # type: ignore[union-attr]
    weights = [share / (1 + math.exp(-sum(float(gate[0, f] * row[f]) for f in range(12)))) for row in rows]
    return [rows[0]] + [rows[i] + weights[i] * rows[i - 1] for i in range(1, len(rows))]


def bigram_by_hand(made: Decoder, text: list[int]) -> list[torch.Tensor]:
    table: Any = made.embedder.pairs.weight  # type: ignore[union-attr]
    numbers = [5 * VOCAB - 1] + [((36313 * b) ^ (27191 * a)) % (5 * VOCAB - 1) for a, b in pairwise(text)]
    return [made.embedding.weight[token] + table[number] for token, number in zip(text, numbers, strict=True)]


@pytest.mark.parametrize(("choice", "by_hand"), [("smear", smear_by_hand), ("bigram", bigram_by_hand)])
def test_an_embedding_is_its_formula_token_by_token(choice: str, by_hand: Any):
    made, now = decoder(f"embedding={choice}"), tokens(BATCH, TIME)
    wanted = torch.stack([torch.stack(by_hand(made, row.tolist())) for row in now])
    close(made.embed_tokens(now), wanted)


@pytest.mark.parametrize("choice", LOOKING_BACK)
def test_nothing_before_a_border_is_read(choice: str):
    made, now = decoder(f"embedding={choice}"), tokens(1, 12)
    documents = torch.tensor([[3] * 5 + [4] * 6 + [9]])
    entered: list[torch.Tensor] = []
    made.layers[0].register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))
    made(now, documents=documents)
    alone = [made.embed_tokens(now[:, part]) for part in (slice(0, 5), slice(5, 11), slice(11, 12))]
    close(entered[0], torch.cat(alone, 1))
    assert not torch.isclose(made.embed_tokens(now)[:, 5], alone[1][:, 0]).all()


@pytest.mark.parametrize("choice", LOOKING_BACK)
def test_it_starts_as_the_row_of_the_token_alone(choice: str):
    made, plain = (wiring.build_decoder(recipe(case), VOCAB) for case in (f"embedding={choice}", ""))
    now = tokens(BATCH, TIME)
    assert torch.equal(made(now).logits, plain(now).logits)


@pytest.mark.parametrize("choice", LOOKING_BACK)
@pytest.mark.parametrize("draft", ["self", "smaller"])
def test_a_guess_that_is_taken_back_is_forgotten(choice: str, draft: str):
    made, given = decoder(f"embedding={choice} readout=mtp readout.mtp=3"), tokens(1, 5)
    alone = torch.stack([*generate(made, given, 80, temperature=0)], 1)
    guesser: Any = "self" if draft == "self" else decoder(f"embedding={choice} attention=swa")
    assert torch.equal(torch.stack([*speculate(made, guesser, given, 80, temperature=0)], 1), alone)


def test_rows_of_several_lengths_are_written_as_each_alone():
    made, prompts = decoder("embedding=smear"), [tokens(n, key=str(n)) for n in (1, 9, 40)]
    written = torch.stack([*generate(made, prompts, 50, temperature=0)], 1)
    for row, prompt in zip(written, prompts, strict=True):
        assert torch.equal(row, torch.stack([*generate(made, prompt[None], 50, temperature=0)], 1)[0])


@pytest.mark.parametrize(
    ("choice", "parameters", "flops"), [("token", 0, 0), ("smear", 13, 24), ("bigram", 5 * VOCAB * 60, 0)]
)
def test_it_costs_its_parameters_and_matmuls(choice: str, parameters: int, flops: int):
    made, plain = (wiring.build_decoder(recipe(case), VOCAB) for case in (f"embedding={choice}", ""))
    assert count_costs(made).params - count_costs(plain).params == parameters
    assert count_forward_flops(made, TIME) - count_forward_flops(plain, TIME) == flops * TIME


def test_the_default_changes_no_name_and_no_hash():
    new = composed(*SIZES)
    old = {key: value for key, value in new.config.items() if key != "embedding"}
    assert Recipe(old).hash == new.hash
    assert len({new.hash, *(composed(*SIZES, f"embedding={choice}").hash for choice in LOOKING_BACK)}) == 3
    assert [name for name, _ in decoder().named_parameters() if name.startswith("embed")] == ["embedding.weight"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["embedding=smear", "embedding.features=99"], "embedding.features=99 is not in 1 .. model.width=60; try 12"),
        (["embedding=bigram", "embedding.rows_per_token=0"], "embedding.rows_per_token=0 is not positive; try 5"),
    ],
)
def test_what_cannot_be_embedded_is_refused(words: list[str], said: str):
    assert check_recipe(composed(*SIZES, *words)) == [said]


@pytest.mark.parametrize("choice", ["token", *LOOKING_BACK])
def test_no_number_is_read_back_from_the_device(choice: str):
    # a tensor on meta has no number to read, and raises where one is asked for
    made, now = build_on_meta(recipe(f"embedding={choice}"), VOCAB), torch.zeros(2, 5, dtype=torch.long, device="meta")
    cache = made.new_cache(2, 10)
    for _ in range(2):
        logits: Any = made(now, positions=torch.zeros(1, 5, dtype=torch.long, device="meta"), cache=cache).logits
        assert (logits.device.type, logits.shape) == ("meta", (2, 5, VOCAB))


def test_all_choices_are_spoken_of():
    assert {*choices("embedding")} == {"token", *LOOKING_BACK}
