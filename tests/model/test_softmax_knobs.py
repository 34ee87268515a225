"""Knobs of softmax attention that bring weights of their own: against their formulas."""

from typing import Any

import pytest
import torch
from conftest import BATCH, SIZES, TIME, VOCAB, composed, decoder, normal, recipe, tokens
from test_equivalent_variants import attended, heads, joined, moved, weights

from gptlab import compose as wiring
from gptlab.model.attention.softmax import SoftmaxAttention
from gptlab.model.costs import count_forward_flops
from gptlab.model.decoder import Decoder
from gptlab.model.shape import Shape
from gptlab.model.softmax_parts import find_trained_weight
from gptlab.training.check import check_recipe
from gptlab.training.optimizer import is_hidden_matrix

SHAPE = Shape(width=60, heads=6, layers=3, context=64, vocab=VOCAB)
close = torch.testing.assert_close


def test_a_value_embedding_mixes_a_vector_of_the_token_into_its_values():
    attention, x = moved(SoftmaxAttention(SHAPE, value_embedding=True)), normal(BATCH, TIME, 60)
    part = attention.value_embedding
    assert part is not None
    assert part.mix is not None
    values = part.mix[0] * attention.v(x) + part.mix[1] * part.embedding.weight[torch.arange(TIME)]
    q, k, v = heads(attention.q(x), 6), heads(attention.k(x), 6), heads(values, 6)
    close(attended(attention, x), attention.out(joined([weights(q[h], k[h]) @ v[h] for h in range(6)])))


def test_a_gated_value_embedding_weighs_it_head_by_head():
    attention, x = moved(SoftmaxAttention(SHAPE, kv_heads=3, value_embedding="gate")), normal(BATCH, TIME, 60)
    part, now = attention.value_embedding, tokens(BATCH, TIME)
    assert part is not None
    assert part.gate is not None
    v = normal(BATCH, TIME, 3, 10, key="v")
    said, gates = part(v, x, now), 2 * torch.sigmoid(x @ part.gate.weight.T)
    for head in range(3):
        table = part.embedding.weight[:, 10 * head : 10 * head + 10]
        close(said[:, :, head], v[:, :, head] + gates[..., head, None] * table[now])


def test_value_embeddings_begin_by_halves_and_gates_at_one():
    mixed, gated = (
        wiring.build_decoder(recipe(f"attention=mha attention.value_embedding={kind}"), VOCAB)
        for kind in ("true", "gate")
    )
    plain, now = wiring.build_decoder(recipe(), VOCAB), tokens(BATCH, TIME)
    first: list[Any] = [made.layers[0].attention.value_embedding for made in (mixed, gated)]
    v, x = normal(BATCH, TIME, 6, 10).float(), normal(BATCH, TIME, 60).float()
    vectors = first[0].embedding(now).unflatten(-1, (6, 10))
    assert torch.equal(first[0].embedding.weight, first[1].embedding.weight)
    close(first[0](v, x, now), (v + vectors) / 2)
    close(first[1](v, x, now), v + vectors)
    tables = 3 * VOCAB * 60
    assert sum(p.numel() for p in mixed.parameters()) == sum(p.numel() for p in plain.parameters()) + tables + 3 * 2
    assert count_forward_flops(mixed, TIME) == count_forward_flops(plain, TIME)


def test_tables_of_values_are_no_matrices_for_muon():
    made = wiring.build_decoder(recipe("attention=value_embeddings"), VOCAB)
    tables = [name for name, _ in made.named_parameters() if "value_embedding.embedding" in name]
    assert tables == ["blocks.1.attention.value_embedding.embedding.weight",
                      "blocks.2.attention.value_embedding.embedding.weight"]  # fmt: skip
    assert not any(is_hidden_matrix(name, p) for name, p in made.named_parameters() if name in tables)


def test_a_token_s_table_starts_alike_beside_a_sandwich():
    plain, loud = (wiring.build_decoder(recipe(f"attention=value_embeddings residual={r}"), VOCAB).state_dict()
                   for r in ("pre", "sandwich"))  # fmt: skip
    name = "blocks.1.attention.value_embedding.embedding.weight"
    assert torch.equal(plain[name], loud[name])
    assert not torch.equal(plain["embedding.weight"], loud["embedding.weight"])


def test_a_short_convolution_adds_what_the_tokens_before_projected():
    attention, x = moved(SoftmaxAttention(SHAPE, kv_heads=3, short_conv=3)), normal(BATCH, TIME, 60)
    conv: Any = attention.conv
    u = torch.cat([attention.q(x), attention.k(x), attention.v(x)], -1)
    mixed = u.clone()
    for t in range(TIME):
        for back in range(min(t, 2) + 1):
            mixed[:, t] += conv.taps[2 - back] * u[:, t - back]
    q, k, v = heads(mixed[..., :60], 6), heads(mixed[..., 60:90], 3), heads(mixed[..., 90:], 3)
    close(attended(attention, x), attention.out(joined([weights(q[h], k[h // 2]) @ v[h // 2] for h in range(6)])))


def test_a_convolution_sees_again_what_was_taken_back():
    made, now = decoder("attention=mha attention.short_conv=4"), tokens(BATCH, TIME)
    at = torch.arange(TIME)[None]
    cache: Any = made.new_cache(BATCH, TIME)
    for layer in cache:
        layer.widen(5)
    with torch.no_grad():
        wanted = made(now).logits
        made(now[:, :6], cache=cache)
        made(tokens(BATCH, 5, key="guesses"), positions=at[:, 6:11], cache=cache)
        for layer in cache:
            layer.rewind(5)
        for t in range(6, TIME):
            said = made(now[:, t : t + 1], positions=at[:, t : t + 1], cache=cache).logits
            close(said, wanted[:, t : t + 1])


@pytest.mark.parametrize("size", [0, 1])
def test_a_convolution_of_one_token_is_refused(size: int):
    with pytest.raises(ValueError, match=f"short_conv={size} sees no token before its own"):
        SoftmaxAttention(SHAPE, short_conv=size)


def largest_scores(made: Decoder, layer: int) -> torch.Tensor:
    """The largest score of each head of a layer over a batch, each pair written out."""
    entered: list[torch.Tensor] = []
    attention: Any = made.layers[layer].attention
    with torch.no_grad():
        hook = attention.q.register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))
        made(tokens(BATCH, TIME))
        hook.remove()
        q, k = attention.q(entered[0]).unflatten(-1, (6, 10)), attention.k(entered[0]).unflatten(-1, (-1, 10))
        scores = torch.einsum("bthd,bshd->bhts", q, k.repeat_interleave(6 // k.shape[2], 2)) / 10**0.5
        return scores.masked_fill(~torch.ones(TIME, TIME).tril().bool(), -torch.inf).amax((0, 2, 3))


@pytest.mark.parametrize("attention", ["mha", "gqa"])
def test_a_clip_brings_the_largest_scores_down_to_it_and_leaves_heads_below_alone(attention: str):
    made = decoder(f"attention={attention} position=nope")
    before = largest_scores(made, 0)
    clip = before.median().item()
    clipped = decoder(f"attention={attention} position=nope attention.qk_clip={clip}").train()
    first: Any = clipped.layers[0].attention
    assert torch.equal(largest_scores(clipped.eval(), 0), before)
    first.after_step(0)  # an evaluation saw no scores
    assert torch.equal(largest_scores(clipped, 0), before)
    said = clipped.train()(tokens(BATCH, TIME), tokens(BATCH, TIME))
    close(said.facts["largest_score/0"], before.max())
    first.after_step(1)
    close(largest_scores(clipped.eval(), 0), before.clamp(max=clip))
    keys, plain = first.k.weight, made.layers[0].attention.k.weight  # type: ignore[union-attr]
    factors = (clip / before.clamp(min=clip)).view(len(keys) // 10, -1).amin(1).sqrt().repeat_interleave(10)
    close(keys, plain * factors[:, None])  # type: ignore[operator]


def test_a_clip_takes_the_largest_of_all_micro_batches_and_forgets_it_after_the_step():
    made = decoder("attention=mha position=nope attention.qk_clip=1.0").train()
    first: Any = made.layers[0].attention
    for key in ("one", "two"):
        made(tokens(BATCH, TIME, key=key), tokens(BATCH, TIME))
    both = first.qk_clip.largest.clone()
    made.layers[0].attention.start_training()  # type: ignore[union-attr,operator]
    assert first.qk_clip.largest is None
    single = []
    for key in ("one", "two"):
        made(tokens(BATCH, TIME, key=key), tokens(BATCH, TIME))
        single.append(first.qk_clip.largest)
        first.qk_clip.largest = None
    assert torch.equal(both, torch.maximum(*single))


BAD_CLIPS: list[tuple[dict[str, Any], str]] = [
    ({"qk_clip": 0.0}, "qk_clip=0.0 is not positive"),
    ({"qk_clip": 9.0, "qk_norm": True}, "whose size qk_norm takes away"),
]


@pytest.mark.parametrize(("knobs", "problem"), BAD_CLIPS)
def test_a_clip_that_clips_nothing_is_refused(knobs: dict[str, Any], problem: str):
    with pytest.raises(ValueError, match=problem):
        SoftmaxAttention(SHAPE, **knobs)


def test_a_clip_reaches_the_weights_that_lie_below_a_rounding_and_a_mask():
    words = (*SIZES, "position=nope", "attention.qk_clip=1e-9", "change=[quantize,prune]")
    made = wiring.build_decoder(composed(*words), VOCAB).train()
    made(tokens(BATCH, TIME), tokens(BATCH, TIME))
    first: Any = made.layers[0].attention
    before, rounded = find_trained_weight(first.q).clone(), first.q.weight.clone()
    first.after_step(1)
    # every score is above such a clip, so that every head is scaled down, and what the layer reads with it
    assert (find_trained_weight(first.q).abs() < before.abs()).all()
    assert first.q.weight.abs().sum() < rounded.abs().sum()


@pytest.mark.parametrize(
    "words", [["change=[lora]"], ["change=[lora]", "change.lora.targets=*.mlp.*"], ["change=[pack]"]]
)
def test_a_clip_of_weights_that_a_change_has_fixed_is_refused_before_any_compute(words: list[str]):
    (problem,) = check_recipe(composed(*SIZES, "attention.qk_clip=9", *words))
    assert problem.startswith("attention.qk_clip scales the weights of blocks.0.attention.q, which a change has frozen")
