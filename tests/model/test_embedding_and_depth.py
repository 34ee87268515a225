"""What the decoder itself does with its embedding and its layers, beyond meeting each of them once."""

from typing import Any

import pytest
import torch
from conftest import BATCH, SIZES, TIME, VOCAB, composed, perturb, recipe, tokens

from gptlab import compose as wiring
from gptlab.config.recipe import Recipe, check_settings
from gptlab.model.costs import count_forward_flops, count_training_flops
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


# -- layers that are met more than once


def unroll(looped: Decoder, case: str) -> Decoder:
    """The decoder of as many layers as a token meets in `looped`, with its weights in each of them."""
    deep = made_with(f"{case} model.layers={len(looped.applied_layers)}")
    sources = [looped.layers.index(block) for block in looped.applied_layers]
    state = {name: p for name, p in looped.state_dict().items() if not name.startswith("blocks.")}
    for layer, source in enumerate(sources):
        prefix = f"blocks.{source}."
        own = {name: p for name, p in looped.state_dict().items() if name.startswith(prefix)}
        state |= {name.replace(prefix, f"blocks.{layer}.", 1): p for name, p in own.items()}
    deep.load_state_dict(state)
    return deep


@pytest.mark.parametrize("order", ["cycle", "repeat"])
@pytest.mark.parametrize(
    "case", ["attention=mqa", "attention=gated_deltanet", "mlp=moe", "residual=hyper", "residual=x0", "position=alibi"]
)
def test_a_looped_decoder_is_the_deep_one_with_its_weights_in_every_loop(case: str, order: str):
    looped = made_with(f"{case} model.loops=2 model.loop_order={order}")
    deep, now = unroll(looped, case), tokens(BATCH, TIME)
    assert len(deep.layers) == 2 * len(looped.layers)
    said, wanted = (made(now, tokens(BATCH, TIME, key="targets")) for made in (looped, deep))
    close((said.loss, said.losses), (wanted.loss, wanted.losses))
    assert count_forward_flops(looped, TIME) == count_forward_flops(deep, TIME)
    assert count_training_flops(looped, TIME) == count_training_flops(deep, TIME)
    sizes = [[cache.nbytes for cache in made.new_cache(BATCH, TIME) if cache] for made in (looped, deep)]
    assert sizes[0] == sizes[1]
    blocks = [sum(p.numel() for p in made.blocks.parameters()) for made in (looped, deep)]
    assert 2 * blocks[0] == blocks[1]


def test_a_loop_s_gradient_is_the_sum_over_its_layers():
    looped = made_with("model.loops=3")
    deep = unroll(looped, "")
    for made in (looped, deep):
        made(tokens(BATCH, TIME), tokens(BATCH, TIME, key="targets")).loss.backward()
    for layer, block in enumerate(looped.layers):
        wanted: Any = [deep.layers[layer + 3 * turn].attention.out.weight.grad for turn in range(3)]  # type: ignore[union-attr]
        close(block.attention.out.weight.grad, sum(wanted))  # type: ignore[union-attr]


@pytest.mark.parametrize("residual", ["unet", "denseformer", "attention_residual"])
def test_residuals_that_know_their_depth_refuse_loops(residual: str):
    with pytest.raises(ValueError, match=r"model.loops=2: residual \(\w+\) knows each layer by its depth"):
        made_with(f"residual={residual} model.loops=2")


def test_loops_that_are_off_leave_hashes_as_they_were_before_them():
    new = composed(*SIZES)
    sizes = {key: value for key, value in new.config["model"].items() if key not in ("loops", "loop_order")}
    old = new.config | {"model": sizes}
    assert Recipe(old).hash == new.hash
    assert Recipe(old).settings.model.loops == 1
    assert Recipe(new.config | {"model": sizes | {"loops": 2}}).hash != new.hash
    assert check_settings(new.config | {"model": sizes | {"loops": 0}}) == [
        "model.loops=0 is not positive; give a number > 0"
    ]
