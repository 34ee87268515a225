"""What the decoder itself does with its embedding and its layers, beyond meeting each of them once."""

from typing import Any

import pytest
import torch
from conftest import BATCH, SIZES, TIME, VOCAB, composed, perturb, recipe, tokens

from gptlab import compose as wiring
from gptlab.config.recipe import Recipe, check_settings
from gptlab.model.decoder import Decoder

close = torch.testing.assert_close


def made_with(case: str = "", **root: Any) -> Decoder:
    """The decoder of a case in float64, with root knobs, every weight moved."""
    decoder = wiring.build_decoder(recipe(case, **root), VOCAB).double().eval()
    perturb(decoder)
    return decoder


# -- the embedding


@pytest.mark.parametrize(("scale", "factor"), [("sqrt_width", 60**0.5), (3.0, 3.0)])
def test_an_embedding_is_scaled_then_normed_then_given_its_position(scale: Any, factor: float):
    made = made_with("position=learned", embedding_scale=scale, embedding_norm=True)
    now = tokens(BATCH, TIME)
    x, entered = factor * made.embedding.weight[now], []
    gain: Any = made.embedding_norm.weight
    normed = gain * x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    made.layers[0].register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))
    made(now)
    close(entered[0], normed + made.position.table.weight[:TIME])  # type: ignore[union-attr,index]


def test_a_tied_head_keeps_the_embedding_unscaled():
    plain, scaled = made_with(), made_with(embedding_scale=2.0)
    assert scaled.readout.head.weight is scaled.embedding.weight  # type: ignore[union-attr]
    now = tokens(BATCH, TIME)
    close(scaled.embed_tokens(now), 2 * plain.embed_tokens(now))


def test_embedding_knobs_that_are_off_leave_hashes_as_they_were_before_them():
    new = composed(*SIZES)
    old = {key: value for key, value in new.config.items() if key not in ("embedding_norm", "embedding_scale")}
    assert Recipe(old).hash == new.hash
    assert Recipe(new.config | {"embedding_scale": 2}).hash != new.hash
    assert not check_settings(old)


@pytest.mark.parametrize("scale", [0.0, -1.0])
def test_an_embedding_is_not_scaled_by_nothing(scale: float):
    problems = check_settings(composed(*SIZES).config | {"embedding_scale": scale})
    assert problems == [
        f"embedding_scale={scale} is not positive; 1 leaves embeddings as they are, sqrt_width is Gemma's"
    ]
