"""Norms, activations, initial weights, positions and readouts beside those of the laws: each against its formula."""

import itertools
import math
from typing import Any

import pytest
import torch
from conftest import BATCH, TIME, VOCAB, decoder, normal, perturb, recipe, tokens
from test_equivalent_variants import attended

from gptlab import compose as wiring
from gptlab.model.forward_pass import ForwardPass
from gptlab.model.mlp.plain import PlainMlp
from gptlab.model.mlp.xielu import XieluMlp
from gptlab.model.norm.dyt import DynamicTanh
from gptlab.model.norm.rms_weightless import WeightlessRMSNorm
from gptlab.model.position.fire import Fire
from gptlab.model.position.rope import Rope
from gptlab.model.position.t5_relative import T5Relative
from gptlab.model.shape import IGNORED, Shape

SHAPE = Shape(width=60, heads=6, layers=4, context=64, vocab=VOCAB)
close = torch.testing.assert_close


def test_dynamic_tanh_and_weightless_rms_are_their_formulas():
    x, dyt = 3 * normal(BATCH, TIME, 60) + 1, DynamicTanh(60).double()
    perturb(dyt)
    close(dyt(x), dyt.weight * torch.tanh(dyt.alpha * 60**0.5 * x) + dyt.bias)
    close(WeightlessRMSNorm(60, eps=0.5)(x), x / (x.square().mean(-1, keepdim=True) + 0.5).sqrt())


def test_a_leaky_square_has_a_quarter_of_the_square_on_its_left():
    x = normal(1000)
    close(PlainMlp(SHAPE, activation="leaky_relu2").activation(x), torch.where(x > 0, x**2, x**2 / 4))


def test_xielu_is_its_formula_and_smooth_at_zero():
    made, x = XieluMlp(SHAPE).double(), normal(1000)
    close(made.activation(x), torch.where(x > 0, 0.8 * x**2, 0.8 * (x.exp() - 1 - x)) + 0.5 * x)
    perturb(made)
    p, n = made.right.exp().log1p(), 0.5 + made.left.exp().log1p()
    close(made.activation(x), torch.where(x > 0, p * x**2 + 0.5 * x, n * (x.exp() - 1) - n * x + 0.5 * x))


def test_xielu_is_that_of_transformers():
    activations = pytest.importorskip("transformers.activations")
    x = normal(1000).float()
    close(XieluMlp(SHAPE).activation(x), activations.XIELUActivation(dtype=torch.float32)(x), atol=2e-3, rtol=2e-2)


# -- initial weights


def test_zero_out_starts_as_embedding_and_head():
    made = wiring.build_decoder(recipe("init=zero_out"), VOCAB)
    x = made.embedding(tokens(BATCH, TIME))
    close(made(tokens(BATCH, TIME)).logits, made.readout(made.norm(x)))


def test_fan_in_keeps_the_size_of_what_a_product_is_given():
    made = wiring.build_decoder(recipe("init=fan_in", ("model=micro", "model.layers=2")), VOCAB)
    for name, p in made.blocks.named_parameters():
        if p.ndim == 2:
            std = (1 if ".out." not in name else 0.5) / p.shape[1] ** 0.5
            assert p.std().item() == pytest.approx(0.987 * std, rel=0.03), name  # cut off at 3 std
            assert p.abs().max().item() <= 3 * std


def test_orthogonal_matrices_have_one_singular_value():
    made = wiring.build_decoder(recipe("init=orthogonal"), VOCAB)
    for name, p in made.blocks.named_parameters():
        if p.ndim == 2:
            wanted = 1 / math.sqrt(6) if ".out." in name else 1
            close(torch.linalg.svdvals(p), torch.full((min(p.shape),), float(wanted)), atol=1e-4, rtol=0)


# -- positions


def test_t5_buckets_are_single_then_a_series_then_one():
    position = T5Relative(SHAPE)
    buckets = position.find_buckets(torch.arange(200)).tolist()
    assert buckets[:17] == list(range(17))
    assert buckets[128] == buckets[199] == 31
    assert all(0 <= b - a <= 1 for a, b in itertools.pairwise(buckets))
    assert buckets[45] == 16 + int(math.log(45 / 16) / math.log(8) * 16)


def test_t5_buckets_are_those_of_transformers():
    t5 = pytest.importorskip("transformers.models.t5.modeling_t5").T5Attention
    distance = torch.arange(200)
    for buckets, far in ((32, 128), (16, 50)):
        theirs = t5._relative_position_bucket(-distance, bidirectional=False, num_buckets=buckets, max_distance=far)
        assert torch.equal(T5Relative(SHAPE, buckets=buckets, far=far).find_buckets(distance), theirs)


def test_a_t5_bias_is_the_table_at_the_distance():
    position = T5Relative(SHAPE)
    at = torch.arange(20)[None]
    bias = position.bias(at, at, 0)
    assert bias.shape == (1, 6, 20, 20)
    close(bias[0, :, 19, 3], position.table.weight[position.find_buckets(torch.tensor(16))])


def test_fire_is_its_formula_pair_by_pair():
    position = Fire(SHAPE, width=5, threshold=8.0).double()
    perturb(position)
    at, layer = torch.arange(20)[None], 2
    bias, head = position.bias(at, at, layer), position.heads[layer]
    c, L = position.curvature[layer].abs(), 8 * position.stretch[layer].abs()
    assert bias.shape == (1, 6, 20, 20)
    for i, j in ((0, 0), (3, 1), (19, 0), (19, 19), (12, 5)):
        u = torch.log(c * (i - j) + 1) / (torch.log(c * max(L.item(), i) + 1) + 1e-6)
        f = head(torch.relu(position.weight[layer] * u + position.shift[layer]))
        close(bias[0, :, i, j], f)


def test_fire_gives_the_beginning_of_any_long_text_the_same_bias():
    position, far = Fire(SHAPE, threshold=4.0), torch.tensor([[1000]])
    first, zero = (position.bias(at, torch.tensor([[0]]), 1) for at in (far, 50 * far))
    close(first, zero, atol=1e-4, rtol=0)


def test_p_rope_turns_the_fastest_pairs_alone():
    q, at = normal(1, TIME, 6, 10), torch.arange(TIME)[None]
    whole, part = (Rope(SHAPE, kept=kept).rotate(q, q, at, 0)[0] for kept in (1.0, 0.4))
    fast, slow = [0, 1, 5, 6], [2, 3, 4, 7, 8, 9]  # two of five pairs, half-split
    close(part[..., fast], whole[..., fast])
    close(part[..., slow], q[..., slow])


def test_every_nth_layer_is_without_positions():
    rope, q, at = Rope(SHAPE, nope_every=2), normal(1, TIME, 6, 10), torch.arange(TIME)[None]
    turned = [not torch.equal(rope.rotate(q, q, at, layer)[0], q) for layer in range(4)]
    assert turned == [True, False, True, False]
    made = decoder("position=rope position.nope_every=3")
    x = normal(BATCH, TIME, 60)
    last: Any = made.layers[2].attention
    close(last(x, ForwardPass(at, at, made.position, default_positions=True)), attended(last, x))


@pytest.mark.parametrize("nope_every", [1, 5])
def test_a_decoder_without_positions_or_with_all_is_not_called_rnope(nope_every: int):
    with pytest.raises(ValueError, match=rf"nope_every={nope_every} is not in 2 .. model.layers=4"):
        Rope(SHAPE, nope_every=nope_every)


# -- readouts


def test_a_z_loss_is_the_mean_square_of_the_normalizer_over_scored_targets():
    made, plain, now = decoder("readout.z_loss=0.1"), decoder(), tokens(BATCH, TIME)
    targets = tokens(BATCH, TIME, key="targets")
    targets[0, :5] = IGNORED
    said = made(now, targets)
    close(said.loss, plain(now, targets).loss)
    squares = plain(now).logits.exp().sum(-1).log().square()
    close(said.losses["z_loss"], 0.1 * squares[targets != IGNORED].mean())
    assert not plain(now, targets).losses
