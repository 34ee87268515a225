"""What must come out equal: variants at the knobs where they become another (law 6), the three kernels, and formulas
against numbers that stand in papers."""

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from conftest import BATCH, CASES, SIZES, TIME, VOCAB, choices, composed, decoder, menu, normal, perturb, recipe, tokens
from torch import Tensor

from gptlab import compose as wiring
from gptlab.config.recipe import Recipe
from gptlab.model.attention import Attention
from gptlab.model.attention.differential import DifferentialAttention
from gptlab.model.attention.latent import LatentAttention
from gptlab.model.attention.linear import LinearAttention
from gptlab.model.attention.moba import BlockMixture
from gptlab.model.attention.softmax import SoftmaxAttention
from gptlab.model.attention.talking_heads import TalkingHeads
from gptlab.model.attention_kernels import attend, force_kernel
from gptlab.model.costs import count_costs, count_forward_flops
from gptlab.model.decoder import Decoder
from gptlab.model.expert_kernels import fits_grouped_mm, force_expert_kernel
from gptlab.model.forward_pass import ForwardPass, PassMask
from gptlab.model.mask import Mask
from gptlab.model.mlp.gated import GatedMlp
from gptlab.model.mlp.mixture import MixtureMlp, compute_balance
from gptlab.model.mlp.plain import PlainMlp
from gptlab.model.norm.layernorm import LayerNorm
from gptlab.model.norm.rmsnorm import RMSNorm
from gptlab.model.position import Position
from gptlab.model.position.alibi import Alibi, compute_slopes
from gptlab.model.position.learned import Learned
from gptlab.model.position.learned_concat import LearnedConcat
from gptlab.model.position.rope import Rope
from gptlab.model.position.sinusoidal import Sinusoidal
from gptlab.model.residual.hyper import Hyper
from gptlab.model.shape import Shape
from gptlab.training.build import build_uninitialized

SHAPE = Shape(width=60, heads=6, layers=3, context=64, vocab=VOCAB)
AT = torch.arange(TIME)[None]
close = torch.testing.assert_close


def alone(position: Position | None = None, at: Tensor = AT) -> ForwardPass:
    """A pass for one part alone, by default without positions."""
    return ForwardPass(at, at, position or Position(SHAPE), default_positions=at is AT)


def attended(attention: Attention, x: Tensor) -> Tensor:
    """One attention alone, without positions."""
    return attention(x, alone(at=torch.arange(x.shape[1])[None]))


# -- variants

SAME = [
    ("attention=gqa attention.kv_heads=6", "attention=mha"),
    ("attention=gqa attention.kv_heads=1", "attention=mqa"),
    ("attention=swa attention.window=17", "attention=mha"),
    ("attention=local_global attention.layout=[full]", "attention=mha"),
    ("attention=local_global attention.layout=[local] attention.last=null", "attention=swa"),
    ("attention=hybrid attention.layout=[full]", "attention=mha"),
    ("attention=shared attention.layout=[own]", "attention=mha"),
    ("attention=linear attention.chunk=1", "attention=linear"),
    ("attention=linear attention.chunk=5", "attention=linear"),
    ("attention=retention attention.expand_v=1", "attention=linear"),
    ("attention=gated_deltanet attention.chunk=4", "attention=gated_deltanet"),
    ("attention=rwkv7 attention.chunk=1", "attention=rwkv7"),
    ("attention=forgetting attention.forget_gate=false", "attention=mha"),
    ("attention=xsa attention.exclusive=false", "attention=mha"),
    ("attention=moba attention.block=17", "attention=mha"),
    ("attention=moba attention.top_k=99", "attention=mha"),
    ("position=rope_local_global position.theta=[10000] position.last=null", "position=rope"),
    ("position=rope_local_global position.theta=10000 position.last=10000", "position=rope"),
    ("position=sinusoidal position.scale=0", "position=nope"),
    ("readout=untied readout.tied=true", "readout=tied"),
]


@pytest.mark.parametrize(("words", "other"), SAME)
def test_a_knob_at_its_end_is_the_other_variant(words: str, other: str):
    now, targets = tokens(BATCH, TIME), tokens(BATCH, TIME, key="targets")
    one, two = decoder(words), decoder(other)
    assert one.state_dict().keys() == two.state_dict().keys()
    close(one(now, targets).loss, two(now, targets).loss)
    close(one(now).logits, two(now).logits)


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.split("=")[0] in ("attention", "norm", "mlp", "residual", "block")]
)
def test_a_pattern_of_one_kind_is_that_kind(case: str):
    slot, kind = case.split("=")[0], recipe(case)
    node = {
        "_target_": "gptlab.model.decoder.pattern",
        "_partial_": True,
        "layout": ["it"],
        "kinds": {"it": kind.config[slot]},
    }
    one, two = (wiring.build_decoder(made, VOCAB).eval() for made in (kind, Recipe(kind.config | {slot: node})))
    assert torch.equal(one(tokens(BATCH, TIME)).logits, two(tokens(BATCH, TIME)).logits)


def spread(gqa: SoftmaxAttention, mha: SoftmaxAttention, repeat: Callable[[Tensor], Tensor]) -> SoftmaxAttention:
    """mha with gqa's weights, its key and value heads repeated."""
    state = gqa.state_dict()
    for name in ("k.weight", "v.weight"):
        state[name] = repeat(state[name].unflatten(0, (gqa.kv_heads, gqa.head))).flatten(0, 1)
    mha.load_state_dict(state)
    return mha


@pytest.mark.parametrize("kv_heads", [1, 2, 3])
def test_gqa_is_mha_with_each_kv_head_repeated_in_place(kv_heads: int):
    gqa, mha = SoftmaxAttention(SHAPE, kv_heads=kv_heads).double(), SoftmaxAttention(SHAPE).double()
    groups, x = SHAPE.heads // kv_heads, normal(BATCH, TIME, 60)
    perturb(gqa)
    close(attended(spread(gqa, mha, lambda w: w.repeat_interleave(groups, 0)), x), attended(gqa, x))
    tiled = attended(spread(gqa, mha, lambda w: w.repeat(groups, 1, 1)), x)
    assert torch.allclose(tiled, attended(gqa, x)) == (kv_heads == 1)  # tiling mixes the groups up


def test_the_gradient_of_a_shared_head_is_the_sum_over_its_group():
    gqa, mha = SoftmaxAttention(SHAPE, kv_heads=3).double(), SoftmaxAttention(SHAPE).double()
    perturb(gqa)
    spread(gqa, mha, lambda w: w.repeat_interleave(2, 0))
    for attention in (gqa, mha):
        attended(attention, normal(BATCH, TIME, 60)).square().sum().backward()
    for shared, own in ((gqa.k.weight.grad, mha.k.weight.grad), (gqa.v.weight.grad, mha.v.weight.grad)):
        assert own is not None
        close(shared, own.unflatten(0, (3, 2, 10)).sum(1).flatten(0, 1))


def test_a_window_of_one_gives_the_value_of_the_same_token():
    attention, x = SoftmaxAttention(SHAPE, window=1).double(), normal(BATCH, TIME, 60)
    close(attended(attention, x), attention.out(attention.v(x)))


def test_a_window_of_three_sees_three_keys_its_own_counted():
    at = torch.arange(6)[None]
    rows = ["".join(map(str, row)) for row in Mask(3)(at, at)[0, 0].int().tolist()]
    assert rows == ["100000", "110000", "111000", "011100", "001110", "000111"]


def test_a_token_out_of_the_window_changes_nothing():
    attention, x = SoftmaxAttention(SHAPE, window=5).double(), normal(1, TIME, 60)
    other = x.clone()
    other[:, 4] += 1
    same = torch.isclose(attended(attention, x), attended(attention, other)).all(-1)[0]
    assert same.tolist() == [not 4 <= t < 4 + 5 for t in range(TIME)]


# -- knobs and variants against their formulas, written out head by head


def moved(made: Any) -> Any:
    """A part in float64, every weight moved so that nothing is zero by luck."""
    made = made.double()
    perturb(made)
    return made


def heads(x: Tensor, count: int) -> Tensor:
    """(B, T, H D) to (H, B, T, D)."""
    return x.unflatten(-1, (count, -1)).movedim(-2, 0)


def joined(ys: list[Tensor]) -> Tensor:
    """Heads (B, T, D) side by side."""
    return torch.cat(ys, -1)


def weights(q: Tensor, k: Tensor, sink: float | None = None, cap: float | None = None) -> Tensor:
    """Causal softmax of q k / sqrt(D) for one head, (B, T, T), by exponentials and a sum."""
    z = q @ k.mT / math.sqrt(q.shape[-1])
    z = z if cap is None else cap * torch.tanh(z / cap)
    e = z.exp().tril()
    return e / (e.sum(-1, keepdim=True) + (0 if sink is None else math.exp(sink)))


@pytest.mark.parametrize(
    "knobs",
    [{}, {"gate": True}, {"sink": True}, {"softcap": 0.7}, {"gate": True, "sink": True, "softcap": 0.7}],
    ids=str,
)
def test_knobs_of_softmax_are_their_formulas(knobs: dict[str, Any]):
    attention, x = moved(SoftmaxAttention(SHAPE, **knobs)), normal(BATCH, TIME, 60)
    q, k, v = (heads(part(x), 6) for part in (attention.q, attention.k, attention.v))
    sinks = attention.sink.tolist() if "sink" in knobs else [None] * 6
    y = joined([weights(q[h], k[h], sinks[h], knobs.get("softcap")) @ v[h] for h in range(6)])
    y = y / (1 + (-attention.gate(x)).exp()) if "gate" in knobs else y
    close(attended(attention, x), attention.out(y))


def test_a_gate_by_head_is_one_number_for_all_features_of_a_head():
    attention, x = moved(SoftmaxAttention(SHAPE, gate="head")), normal(BATCH, TIME, 60)
    q, k, v = (heads(part(x), 6) for part in (attention.q, attention.k, attention.v))
    gates = attention.gate(x).sigmoid()
    y = joined([gates[..., h, None] * (weights(q[h], k[h]) @ v[h]) for h in range(6)])
    close(attended(attention, x), attention.out(y))


def test_a_norm_over_the_whole_projection_knows_no_heads():
    attention, x = moved(SoftmaxAttention(SHAPE, kv_heads=3, qk_norm="whole")), normal(BATCH, TIME, 60)

    def norm(x: Tensor, weight: Tensor) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight

    q, k = norm(attention.q(x), attention.q_norm.weight), norm(attention.k(x), attention.k_norm.weight)
    q, k, v = heads(q, 6), heads(k, 3), heads(attention.v(x), 3)
    y = joined([weights(q[h], k[h // 2]) @ v[h // 2] for h in range(6)])
    close(attended(attention, x), attention.out(y))


def test_a_forget_gate_multiplies_what_lies_between_query_and_key():
    attention, x = moved(SoftmaxAttention(SHAPE, forget_gate=True)), normal(BATCH, TIME, 60)
    q, k, v = (heads(part(x), 6) for part in (attention.q, attention.k, attention.v))
    gates = attention.forget(x).sigmoid()
    decay = torch.zeros(6, BATCH, TIME, TIME).double()
    for i, j in itertools.product(range(TIME), repeat=2):
        if j <= i:
            decay[:, :, i, j] = gates[:, j + 1 : i + 1].prod(1).T
    e = (q @ k.mT / 10**0.5).exp() * decay
    close(attended(attention, x), attention.out(joined([*(e / e.sum(-1, keepdim=True) @ v)])))


def test_exclusive_attention_reads_nothing_along_the_own_value():
    plain, attention = (moved(SoftmaxAttention(SHAPE, kv_heads=3, exclusive=on)) for on in (False, True))
    plain.load_state_dict(attention.state_dict())
    x = normal(BATCH, TIME, 60)
    v = attention.v(x).unflatten(-1, (3, 10)).repeat_interleave(2, 2)
    for part in (plain, attention):
        part.out = torch.nn.Identity()
    whole, rest = (attended(part, x).unflatten(-1, (6, 10)) for part in (plain, attention))
    close((rest * v).sum(-1), torch.zeros(BATCH, TIME, 6).double())
    close(whole - rest, (whole * v).sum(-1, keepdim=True) / v.square().sum(-1, keepdim=True) * v)


def test_talking_heads_mix_scores_and_weights():
    attention, x = moved(TalkingHeads(SHAPE)), normal(BATCH, TIME, 60)
    q, k, v = (heads(part(x), 6) for part in (attention.q, attention.k, attention.v))
    scores = torch.einsum("gh,hbij->gbij", attention.mix_scores.weight, q @ k.mT / 10**0.5)
    e = scores.exp().tril()
    mixed = torch.einsum("gh,hbij->gbij", attention.mix_weights.weight, e / e.sum(-1, keepdim=True))
    close(attended(attention, x), attention.out(joined([*(mixed @ v)])))


def test_heads_that_talk_to_themselves_alone_are_mha_at_birth():
    talking, plain = (wiring.build_decoder(recipe(f"attention={one}"), VOCAB) for one in ("talking_heads", "mha"))
    close(talking(tokens(BATCH, TIME)).logits, plain(tokens(BATCH, TIME)).logits)


def test_a_mixture_of_blocks_reads_the_own_block_and_those_of_the_likeliest_mean_key():
    attention, x = moved(BlockMixture(SHAPE, block=3, top_k=3)), normal(BATCH, TIME, 60)
    q, k, v = (heads(part(x), 6) for part in (attention.q, attention.k, attention.v))
    ys = torch.zeros_like(q)
    for h, b, t in itertools.product(range(6), range(BATCH), range(TIME)):
        past = range(t // 3)
        means = [k[h, b, 3 * n : 3 * n + 3].mean(0) @ q[h, b, t] for n in past]
        best = sorted(past, key=lambda n, means=means: -means[n].item())[:2]
        read = [s for s in range(t + 1) if s // 3 in {*best, t // 3}]
        ys[h, b, t] = (k[h, b, read] @ q[h, b, t] / 10**0.5).softmax(0) @ v[h, b, read]
    close(attended(attention, x), attention.out(joined([*ys])))
    assert attention.pairs(8) == sum([1, 2, 3, 4, 5, 6, 7, 8])
    assert attention.pairs(11) == attention.pairs(9) + 7 + 8


def test_a_value_residual_blends_in_the_first_layers_values():
    first, third = (moved(SoftmaxAttention(SHAPE, layer, value_residual=True)) for layer in (0, 2))
    x, z, forward_pass = normal(BATCH, TIME, 60), normal(BATCH, TIME, 60, key="z"), alone()
    assert not hasattr(first, "blend")
    close(first(x, forward_pass), attended(first, x))
    q, k = heads(third.q(z), 6), heads(third.k(z), 6)
    v = heads((1 - third.blend) * third.v(z) + third.blend * first.v(x), 6)
    close(third(z, forward_pass), third.out(joined([weights(q[h], k[h]) @ v[h] for h in range(6)])))


@pytest.mark.parametrize("back", [1, 2])
def test_a_reader_has_the_keys_of_its_owner_turned_as_the_owner_turns(back: int):
    position = Rope(SHAPE, theta=[100.0, 10000.0, 1000.0])
    owner, between = moved(SoftmaxAttention(SHAPE)), SoftmaxAttention(SHAPE, 1, share_with=1)
    reader, x = SoftmaxAttention(SHAPE, 2, share_with=back).double(), normal(BATCH, TIME, 60)
    reader.load_state_dict({k: v for k, v in owner.state_dict().items() if k in reader.state_dict()})
    between.check_compatible(position, [owner])
    reader.check_compatible(position, [owner, between])
    forward_pass = alone(position)
    said = owner(x, forward_pass)
    close(reader(x, forward_pass), said)
    assert {name.split(".")[0] for name in reader.state_dict()} == {"q", "out"}


def test_latent_attention_is_its_formula():
    position = Rope(SHAPE)
    mla, x = moved(LatentAttention(SHAPE, rank=14, rope_head=4)), normal(BATCH, TIME, 60)
    c = mla.down(x)
    c = c / (c.square().mean(-1, keepdim=True) + 1e-6).sqrt() * mla.norm.weight
    q, k, v, shared = heads(mla.q(x), 6), heads(mla.k_up(c), 6), heads(mla.v_up(c), 6), mla.k(x)

    def turn(x: Tensor) -> Tensor:
        return position.rotate(x[:, :, None], x[:, :, None], AT, 0)[0][:, :, 0]

    full = [(joined([q[h, ..., :10], turn(q[h, ..., 10:])]), joined([k[h], turn(shared)])) for h in range(6)]
    close(mla(x, alone(position)), mla.out(joined([weights(*full[h]) @ v[h] for h in range(6)])))
    assert mla.new_cache(1, 40, x).nbytes == 40 * (14 + 4) * 8


@pytest.mark.parametrize("layer", [0, 3])
@pytest.mark.parametrize("blended", [True, False], ids=["blended", "not"])
def test_differential_attention_is_its_formula(layer: int, blended: bool):
    attention, x = moved(DifferentialAttention(SHAPE, layer)), normal(BATCH, TIME, 60)
    start = {0: 0.2, 3: 0.8 - 0.6 * math.exp(-0.9)}[layer]
    a1, b1, a2, b2 = (attention.a1, attention.b1, attention.a2, attention.b2)
    blend = math.exp((a1 @ b1).item()) - math.exp((a2 @ b2).item()) + start
    if not blended:  # the second softmax is then out of it
        blend = 0.0
        with torch.no_grad():
            a1.zero_()
            a2.copy_(b2 / b2.square().sum() * math.log(1 + start))
    q, k, v = heads(attention.q(x), 6), heads(attention.k(x), 6), heads(attention.v(x), 3)
    ys = [(weights(q[2 * i], k[2 * i]) - blend * weights(q[2 * i + 1], k[2 * i + 1])) @ v[i] for i in range(3)]
    normed = [y / (y.square().mean(-1, keepdim=True) + 1e-5).sqrt() * attention.norm.weight for y in ys]
    close(attended(attention, x), attention.out((1 - start) * joined(normed)))


@pytest.mark.parametrize("chunk", [1, 5, 17, 64])
@pytest.mark.parametrize("decay", [None, 0.6, 1.0])
def test_linear_attention_is_its_recurrence_and_its_quadratic_form(decay: float | None, chunk: int):
    attention, x = moved(LinearAttention(SHAPE, decay=decay, chunk=chunk)), normal(BATCH, TIME, 60)
    q, k, v = (heads(part(x), 6) for part in (attention.q, attention.k, attention.v))
    each = [1 - 1 / 2 ** (5 + h) if decay is None else decay for h in range(6)]
    at = torch.arange(TIME)
    powers = [(each[h] ** (at[:, None] - at[None]).double()).tril() for h in range(6)]
    squares = [(q[h] @ k[h].mT * powers[h]) @ v[h] for h in range(6)]
    states = torch.zeros(6, BATCH, 10, 10).double()
    steps = []
    for t in range(TIME):
        for h in range(6):
            states[h] = each[h] * states[h] + k[h, :, t, :, None] * v[h, :, t, None]
        steps.append(torch.einsum("hbd,hbde->hbe", q[:, :, t], states))
    close(torch.stack(steps, 2), torch.stack(squares))
    normed = [y / (y.square().mean(-1, keepdim=True) + 10 * 1e-6).sqrt() for y in squares]  # y is over sqrt(10) there
    cache = attention.new_cache(BATCH, TIME, x)
    gate = attention.gate(x)
    close(attention(x, alone(), cache), attention.out(gate * gate.sigmoid() * joined(normed)))
    close(cache.rows["state"], states.movedim(0, 1))


def test_linear_attention_without_its_gate_writes_the_norm_alone():
    gated, bare = moved(LinearAttention(SHAPE)), LinearAttention(SHAPE, gate=False).double()
    assert set(gated.state_dict()) - set(bare.state_dict()) == {"gate.weight"}
    bare.load_state_dict({name: p for name, p in gated.state_dict().items() if name != "gate.weight"})
    for attention in (gated, bare):
        attention.add_module("out", torch.nn.Identity())
    assert gated.gate is not None
    x = normal(BATCH, TIME, 60)
    close(attended(gated, x), torch.nn.functional.silu(gated.gate(x)) * attended(bare, x))


@pytest.mark.parametrize("count", [2, 4, 8])
def test_the_two_maps_of_a_differential_pair_decay_alike(count: int):
    shape = Shape(width=16 * count, heads=count, layers=1, context=64, vocab=VOCAB)
    attention, x, position = moved(DifferentialAttention(shape)), normal(1, TIME, 16 * count), Alibi(shape)
    with torch.no_grad():  # two equal maps, of which the second is taken off whole: nothing is left if they decay alike
        for part in (attention.q, attention.k):
            part.weight.copy_(part.weight.unflatten(0, (-1, 2, 16))[:, :1].expand(-1, 2, -1, -1).flatten(0, 2))
        for vector in (attention.a2, attention.b2):
            vector.zero_()
        attention.a1.copy_(attention.b1 / attention.b1.square().sum() * math.log(2))
    attention.start = 0.0
    assert attention.blend().item() == pytest.approx(1)
    assert attended(attention, x).abs().max() < 1e-9
    assert attention(x, alone(position)).abs().max() < 1e-9
    bias = position.bias(AT, AT, 0)[0, 1::2, 9, 4]
    close(bias, -5 * compute_slopes(count // 2))


@pytest.mark.parametrize("choice", ["local_global", "hybrid"])
@pytest.mark.parametrize("layers", [1, 2, 3, 4, 5, 6, 8])
def test_the_last_layer_sees_everything_at_any_depth(choice: str, layers: int):
    made = wiring.build_decoder(composed(f"attention={choice}", "model=nano", f"model.layers={layers}"), VOCAB)
    full = [
        isinstance(block.attention, SoftmaxAttention) and block.attention.mask.reach is None for block in made.layers
    ]
    assert full == [layer % 4 == 3 or layer == layers - 1 for layer in range(layers)]


@pytest.mark.parametrize("choice", ["gated_deltanet", "rwkv7"])
def test_the_recurrence_of_a_hybrid_is_a_choice(choice: str):
    words = ["attention=hybrid", f"attention@attention.kinds.state={choice}", "model=nano", "model.layers=5"]
    made, alone = wiring.build_decoder(composed(*words), VOCAB), composed(f"attention={choice}", "model=nano")
    state = type(wiring.build_decoder(alone, VOCAB).layers[0].attention)
    kinds = [type(block.attention) for block in made.layers]
    assert kinds == [state, state, state, SoftmaxAttention, SoftmaxAttention]


@pytest.mark.parametrize("layers", [1, 2, 3, 5, 8])
def test_the_last_layer_has_the_longest_waves_at_any_depth(layers: int):
    made = wiring.build_decoder(composed("position=rope_local_global", "model=nano", f"model.layers={layers}"), VOCAB)
    assert isinstance(made.position, Rope)
    thetas = [made.position.thetas[layer % len(made.position.thetas)] for layer in range(layers)]
    assert thetas == [1e6 if layer % 4 == 3 or layer == layers - 1 else 1e4 for layer in range(layers)]


@pytest.mark.parametrize("model", ["small", "nano", "micro"])
def test_a_window_sees_more_than_the_query_itself(model: str):
    config = composed("attention=swa", f"model={model}").config
    assert config["attention"]["window"] == max(2, config["model"]["context"] // 4)


def test_a_state_does_not_know_padding_wherever_it_stands():
    attention, x = moved(LinearAttention(SHAPE, chunk=4)), normal(1, TIME, 60)
    real = torch.tensor([t % 3 != 1 for t in range(TIME)])
    at = torch.where(real, real.cumsum(0) - 1, -1)[None]
    close(attention(x, alone(at=at))[:, real], attended(attention, x[:, real]))


# -- kernels

FEATURES: dict[str, dict[str, Any]] = {
    "plain": {},
    "grouped": {"kv_heads": 3},
    "window": {"reach": 5},
    "bias": {"bias": True},
    "sink": {"sink": True},
    "scale": {"scale": 0.7},
    "softcap": {"softcap": 1.5},
    "window, bias, sink, grouped": {"reach": 5, "bias": True, "sink": True, "kv_heads": 3},
    "all": {"reach": 5, "bias": True, "sink": True, "kv_heads": 2, "scale": 0.7, "softcap": 1.5},
}


def posed(
    features: dict[str, Any], padded: bool, *, learn: bool = True, value: int = 10
) -> tuple[list[Tensor], Callable[[], Tensor]]:
    """Tensors that may learn, and attend over them; padded: the first keys and queries of a row are no tokens."""
    kv, reach = features.get("kv_heads", 6), features.get("reach")
    at = torch.stack([AT[0], AT[0] - 4]).clamp(min=-1) if padded else AT
    pass_mask = PassMask(Mask(reach), at, at, causal=not padded and reach is None)
    q, k, v = normal(2, TIME, 6, 10, key="q"), normal(2, TIME, kv, 10, key="k"), normal(2, TIME, kv, value, key="v")
    more: dict[str, Any] = {name: features[name] for name in ("scale", "softcap") if name in features}
    leaves = [x.requires_grad_(learn) for x in (q, k, v)]
    if "bias" in features:
        more["bias"] = Alibi(SHAPE).bias(at, at, 0)
    if "sink" in features:
        more["sink"] = normal(6, key="sink").requires_grad_(learn)
        leaves.append(more["sink"])
    return leaves, lambda: attend(q, k, v, pass_mask, **more)


@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
@pytest.mark.parametrize("features", FEATURES.values(), ids=FEATURES)
def test_sdpa_and_the_chosen_kernel_say_what_naive_says(features: dict[str, Any], padded: bool):
    said = {}
    for name in ("naive", "sdpa", None):
        leaves, run = posed(features, padded)
        if name == "sdpa" and "softcap" in features:
            with force_kernel("sdpa"), pytest.raises(ValueError, match="softcap"):
                run()
            continue
        with force_kernel(name) if name else torch.enable_grad():
            out = run()
        said[name] = [out, *torch.autograd.grad(out.square().sum(), leaves)]
    for name in said:
        close(said[name], said["naive"], msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.few(5)
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
@pytest.mark.parametrize("features", FEATURES.values(), ids=FEATURES)
def test_flex_says_what_naive_says(features: dict[str, Any], padded: bool):
    _, run = posed(features, padded, learn=False)  # on CPU it has no backward
    with force_kernel("naive"):
        wanted = run()
    with force_kernel("flex"):
        close(run(), wanted)


@pytest.mark.parametrize("name", ["naive", "sdpa"])
@pytest.mark.parametrize("features", FEATURES.values(), ids=FEATURES)
def test_a_row_that_sees_nothing_gives_zero_and_finite_gradients(features: dict[str, Any], name: str):
    if name == "sdpa" and "softcap" in features:
        name = "naive"
    leaves, run = posed(features, padded=True)
    with force_kernel(name):
        out = run()
    assert (out[1, :4] == 0).all()
    assert (out[1, 4:] != 0).all()
    assert all(g.isfinite().all() for g in torch.autograd.grad(out.sum(), leaves))


def test_values_may_be_wider_than_keys():
    for name in ("naive", "sdpa"):
        _, run = posed({"kv_heads": 3}, padded=False, value=14)
        with force_kernel(name):
            assert run().shape == (2, TIME, 6, 14)


# -- positions

TURNED = {
    0: [1.0, 2.0, 3.0, 4.0],
    1: [-1.98411065, 1.95990067, 2.46237790, 4.01979967],
    2: [-3.14403912, 1.91960535, -0.33914308, 4.03919736],
    10: [0.79299180, 1.59067466, -3.06123570, 4.17968349],
}
"""[1, 2, 3, 4] turned by RoPE with theta 10^4, half-split."""
INTERLEAVED = {
    1: [-1.14263966, 1.92207560, 2.95985067, 4.02979950],
    2: [-2.23474169, 0.07700375, 2.91940535, 4.05919603],
    10: [0.24897069, -2.22216417, 2.58567883, 4.27951691],
}
"""The same in pairs of neighbours (RoFormer's own order)."""


def exact(numbers: list[float]) -> Tensor:
    """One vector, (1, D) in float64."""
    return torch.tensor([numbers], dtype=torch.float64)


def turned(x: Tensor, at: int | Tensor, **knobs: Any) -> Tensor:
    """Vectors (N, D) as one head's queries at positions (N,) or one for all."""
    rope = Rope(Shape(x.shape[-1], 1, 1, 64, VOCAB), **knobs)
    places = torch.as_tensor(at).expand(len(x))[None]
    q, k = rope.rotate(x[None, :, None], x[None, :, None], places, 0)
    assert torch.equal(q, k)
    return q[0, :, 0]


@pytest.mark.parametrize("at", TURNED)
def test_rope_turns_as_written(at: int):
    close(turned(exact([1, 2, 3, 4]), at), exact(TURNED[at]), atol=1e-8, rtol=0)


@pytest.mark.parametrize("at", INTERLEAVED)
def test_rope_of_permuted_features_is_the_interleaved_form(at: int):
    close(turned(exact([1, 3, 2, 4]), at), exact(INTERLEAVED[at])[:, [0, 2, 1, 3]], atol=1e-8, rtol=0)


def test_rope_keeps_norms_and_knows_distances_alone():
    q, k = normal(5, 10, key="q"), normal(5, 10, key="k")
    close(turned(q, 0), q)
    close(turned(q, 37).norm(dim=-1), q.norm(dim=-1))
    close(turned(turned(q, 30), 7), turned(q, 37))
    close((turned(q, 1037) * turned(k, 1030)).sum(-1), (turned(q, 7) * k).sum(-1))
    assert not torch.allclose((turned(q, 8) * k).sum(-1), (turned(q, 7) * k).sum(-1))


def test_rope_turns_the_first_part_and_leaves_the_rest():
    x = normal(3, 20)
    some = turned(x, 9, fraction=0.5)
    close(some[:, :10], turned(x[:, :10], 9))
    assert torch.equal(some[:, 10:], x[:, 10:])


def test_rope_computes_angles_finer_than_bfloat16():
    x = normal(1, 8)
    rough = turned(x.bfloat16(), 1001)
    assert rough.dtype == torch.bfloat16
    close(rough.double(), turned(x, 1001), atol=0.03, rtol=0)


def test_alibi_has_the_slopes_of_the_paper():
    wanted = {1: [8], 6: [2, 4, 6, 8, 1, 3], 8: range(1, 9), 12: [*range(1, 9), 0.5, 1.5, 2.5, 3.5]}
    for heads, powers in wanted.items():
        # to the last bit what the formula gives on paper
        assert torch.equal(compute_slopes(heads), torch.tensor([2.0**-power for power in powers]))
    assert all(len(set(compute_slopes(heads).tolist())) == heads for heads in range(1, 40))


def test_linear_attention_decays_as_published():
    of_heads, of_one = (LinearAttention(SHAPE, decay=decay).compute_log_decay(torch.ones(1)) for decay in (None, 0.7))
    assert torch.equal(of_heads, torch.tensor([1 - 2.0 ** (-5 - head) for head in range(SHAPE.heads)]).log())
    assert torch.equal(of_one, torch.full((SHAPE.heads,), 0.7).log())


def test_alibi_is_slope_times_distance():
    bias = Alibi(SHAPE).bias(AT, AT, 0)
    assert bias.shape == (1, 6, TIME, TIME)
    for head, slope in enumerate(compute_slopes(6)):
        assert bias[0, head, 9, 4] == -slope * 5
        assert bias[0, head, 9, 9] == 0


def test_sinusoidal_waves_are_as_written():
    waves = Sinusoidal(SHAPE).compute_waves(torch.arange(40)[None], 60)[0]
    assert waves[0].tolist() == [0.0, 1.0] * 30
    assert waves[7, 4].item() == pytest.approx(math.sin(7 / 10000 ** (4 / 60)))
    assert waves[7, 5].item() == pytest.approx(math.cos(7 / 10000 ** (4 / 60)))
    close(waves.square().sum(-1), torch.full((40,), 30.0).double())
    products = waves @ waves.T
    close(products[:-1, :-1], products[1:, 1:])


def test_positions_that_are_joined_and_summed_are_added():
    joined, added = LearnedConcat(SHAPE), Learned(SHAPE)
    added.table = joined.table
    x = torch.randn(BATCH, TIME, 60, generator=torch.Generator().manual_seed(0))
    close(joined.embed(x, AT), added.embed(x, AT))


def test_joined_positions_start_as_added_ones_under_any_init():
    now = tokens(BATCH, TIME)
    for init in choices("init"):
        joined, added = (
            wiring.build_decoder(recipe(f"init={init} position={case}"), VOCAB)
            for case in ("learned_concat", "learned")
        )
        close(joined(now).logits, added(now).logits)
    narrow = LearnedConcat(SHAPE, features=7).mix.weight
    assert torch.equal(narrow, torch.cat([torch.eye(60), torch.eye(60, 7)], 1))


# -- MLPs and norms

GATES = {"silu": lambda x: x * x.sigmoid(), "gelu": lambda x: x * (1 + torch.erf(x / math.sqrt(2))) / 2}
ACTIVATIONS = {
    "gelu": GATES["gelu"],
    "gelu_tanh": lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: x * (x > 0),
    "relu2": lambda x: x * x * (x > 0),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_plain_mlps_are_their_formulas(name: Any):
    mlp, x, forward_pass = (
        PlainMlp(SHAPE, activation=name, bias=True).double(),
        3 * normal(BATCH, TIME, 60),
        ForwardPass(AT, AT, Position(SHAPE)),
    )
    close(mlp(x, forward_pass), mlp.out(ACTIVATIONS[name](mlp.up(x))))
    assert mlp.hidden == 240


@pytest.mark.parametrize("name", GATES)
def test_gated_mlps_are_their_formulas(name: Any):
    mlp, x, forward_pass = (
        GatedMlp(SHAPE, activation=name).double(),
        3 * normal(BATCH, TIME, 60),
        ForwardPass(AT, AT, Position(SHAPE)),
    )
    close(mlp(x, forward_pass), mlp.out(GATES[name](mlp.gate(x)) * mlp.up(x)))
    assert mlp.hidden == 160


def test_the_two_gelus_are_at_most_473_millionths_apart():
    x = torch.linspace(-6, 6, 12001).double()
    apart = (
        PlainMlp(SHAPE, activation="gelu").activation(x) - PlainMlp(SHAPE, activation="gelu_tanh").activation(x)
    ).abs()
    assert apart.max().item() == pytest.approx(4.73e-4, abs=1e-6)
    assert x[apart.argmax()].abs().item() == pytest.approx(2.70, abs=0.02)


@pytest.mark.parametrize("eps", [1e-6, 0.5])
def test_norms_are_their_formulas(eps: float):
    x = 3 * normal(BATCH, TIME, 60) + 1
    rms, layer = RMSNorm(60, eps=eps).double(), LayerNorm(60, eps=eps).double()
    perturb(rms)
    perturb(layer)
    close(rms(x), x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * rms.weight)
    assert layer.bias is not None
    centred = x - x.mean(-1, keepdim=True)
    close(layer(x), centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() * layer.weight + layer.bias)


def test_a_softcap_bends_logits_and_a_wide_one_does_not():
    near, far, plain = decoder("readout.softcap=3"), decoder("readout.softcap=1000000000.0"), decoder()
    now = tokens(BATCH, TIME)
    close(near(now).logits, 3 * torch.tanh(plain(now).logits / 3))
    close(far(now).logits, plain(now).logits)


def test_a_mixture_of_one_is_the_dense_mlp():
    mixture, x = moved(MixtureMlp(SHAPE, expert=GatedMlp, experts=1, top_k=1)), normal(BATCH, TIME, 60)
    close(mixture(x, alone()), mixture.experts[0](x, alone()))
    assert mixture.inactive_weights() == 0
    assert mixture.hidden == GatedMlp(SHAPE).hidden


@pytest.mark.parametrize(
    ("top_k", "normalize", "shared"), [(1, False, False), (2, False, True), (2, True, False), (3, True, False)]
)
def test_a_mixture_is_its_formula_token_by_token(top_k: int, normalize: bool, shared: bool):
    knobs = {"experts": 3, "top_k": top_k, "normalize": normalize, "shared": shared, "balance": 0.5, "hidden": 240}
    made = MixtureMlp(SHAPE, expert=PlainMlp, **knobs)
    mixture, x, forward_pass = moved(made), normal(BATCH, TIME, 60), alone()
    forward_pass.losses["balance"] = torch.tensor(7.0).double()  # of the layer above
    said, likes = mixture(x, forward_pass), mixture.router(x).softmax(-1)
    chosen = torch.zeros(3)
    for b, t in itertools.product(range(BATCH), range(TIME)):
        best = sorted(range(3), key=lambda i, b=b, t=t: -likes[b, t, i].item())[:top_k]
        whole = likes[b, t, best].sum() if normalize else 1
        y = sum(likes[b, t, i] / whole * mixture.experts[i](x[b, t], forward_pass) for i in best)
        close(said[b, t], y + mixture.shared(x[b, t], forward_pass) if shared else y)
        chosen[best] += 1
    balance = 0.5 * 3 * sum(chosen[i] / chosen.sum() * likes[..., i].mean() for i in range(3))
    close(forward_pass.losses["balance"], 7 + balance, check_dtype=False)
    assert mixture.inactive_weights() == (3 - top_k) * 2 * 60 * 240


@pytest.mark.thorough
def test_a_mixture_of_sides_that_a_grouped_product_takes_is_one_graph():
    made = wiring.build_decoder(composed("model=nano", "mlp=moe"), 65)
    now = torch.randint(65, (2, 64))
    traced = torch.compile(made.forward, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(traced(now, now).loss, made(now, now).loss, atol=1e-5, rtol=0)


def test_a_mixture_that_chooses_alike_has_the_least_balance_loss():
    even, odd = torch.eye(4)[None], torch.eye(4)[None, [0, 0, 0, 1]]
    assert compute_balance(even, even.mean((0, 1))).item() == pytest.approx(1)
    assert compute_balance(odd, odd.mean((0, 1))).item() == pytest.approx(4 * (0.75**2 + 0.25**2))


@pytest.mark.parametrize("kernel", ["grouped", "dense"])
@pytest.mark.parametrize("expert", [GatedMlp, partial(PlainMlp, bias=True)], ids=["gated", "plain"])
def test_grouped_and_dense_experts_say_what_a_loop_over_them_says(expert: Any, kernel: str):
    torch.manual_seed(0)
    mixture = MixtureMlp(SHAPE, expert=expert, experts=5, hidden=40)
    x = torch.randn(BATCH, TIME, 60)
    assert fits_grouped_mm(list(mixture.experts), x)  # type: ignore[arg-type]
    gradients = {}
    for name in ("loop", kernel):
        mixture.zero_grad()
        with force_expert_kernel(name):
            y = mixture(x, alone())
        y.square().sum().backward()
        gradients[name] = [y, *(p.grad.clone() for p in mixture.parameters() if p.grad is not None)]
    assert len(gradients["loop"]) == 1 + len(list(mixture.parameters()))
    close(gradients[kernel], gradients["loop"])


@pytest.mark.parametrize("case", ["float64", "side", "hook", "own parameters"])
def test_experts_that_no_grouped_product_takes_are_known(case: str):
    mixture, x = MixtureMlp(SHAPE, expert=GatedMlp, hidden=50 if case == "side" else 40), torch.randn(1, TIME, 60)
    experts: list[Any] = list(mixture.experts)
    if case == "hook":
        experts[2].up.register_forward_pre_hook(lambda *_: None)
    if case == "own parameters":
        experts[0].gain = torch.nn.Parameter(torch.ones(1))
    assert not fits_grouped_mm(experts, x.double() if case == "float64" else x)


def test_a_sigmoid_router_weighs_by_scores_and_chooses_by_scores_and_biases():
    made = MixtureMlp(
        SHAPE, expert=PlainMlp, experts=3, hidden=40, router="sigmoid", bias_speed=0.5, router_z=0.1, shared=2
    )
    mixture, x, forward_pass = moved(made), normal(BATCH, TIME, 60), alone()
    mixture.selection_bias.copy_(torch.tensor([0.0, 9.0, -9.0]))  # so that all take 0 and 1
    said, logits = mixture(x, forward_pass), mixture.router(x)
    s = logits.sigmoid()
    y = sum(s[..., i, None] / (s[..., 0] + s[..., 1])[..., None] * mixture.experts[i](x, alone()) for i in (0, 1))
    close(said, y + mixture.shared(x, alone()))
    assert mixture.shared.hidden == 80
    close(forward_pass.losses["router_z"], 0.1 * logits.exp().sum(-1).log().square().mean())
    assert forward_pass.facts["busiest_expert/0"].item() == pytest.approx(1.5)
    assert forward_pass.facts["expert_load/0"].tolist() == pytest.approx([1.5, 1.5, 0.0])


def test_biases_move_after_a_step_towards_experts_that_were_chosen_less():
    mixture = moved(MixtureMlp(SHAPE, expert=PlainMlp, experts=3, hidden=40, bias_speed=0.5))
    mixture(normal(1, TIME, 60, key="timed before training"), alone())
    mixture.start_training()
    mixture.selection_bias.copy_(torch.tensor([9.0, 0.0, -9.0]))
    for micro in range(2):
        mixture(normal(1, TIME, 60, key=f"{micro}"), alone())
    mixture.after_step(0)
    assert mixture.selection_bias.tolist() == [8.5, -0.5, -8.5]  # the mean of 2 : 2 : 0 is below the first two
    before = mixture.selection_bias.clone()
    mixture.eval()(normal(1, TIME, 60), alone())
    mixture.after_step(1)
    assert torch.equal(mixture.selection_bias, before)


def test_active_parameters_are_all_but_those_of_experts_that_a_token_does_not_meet():
    made = wiring.build_decoder(recipe("mlp=moe"), VOCAB)
    costs = count_costs(made)
    unmet = sum(p.numel() for block in made.layers for expert in block.mlp.experts[2:] for p in expert.parameters())  # type: ignore[union-attr,index]
    assert costs.params - costs.params_active == unmet


def test_a_mixture_promises_what_its_active_experts_cost():
    dense, mixture = (
        wiring.build_decoder(recipe(case), VOCAB) for case in ("", "mlp=moe mlp.top_k=1 mlp.normalize=false")
    )
    routers = 2 * TIME * 3 * 60 * 4
    assert count_forward_flops(mixture, TIME) == count_forward_flops(dense, TIME) + routers


@pytest.mark.parametrize(
    ("case", "hidden"), [("", 80), ("mlp.top_k=4", 40), ("mlp.shared=true", 53), ("mlp.hidden=160", 160)]
)
def test_experts_share_the_width_of_the_dense_mlp_among_those_a_token_meets(case: str, hidden: int):
    mixture = wiring.build_decoder(recipe(f"mlp=moe {case}"), VOCAB).layers[0].mlp
    assert (mixture.hidden, {part.out_features for name, part in mixture.named_modules() if name.endswith(".up")}) == (
        hidden,
        {hidden},
    )


def test_a_token_meets_as_many_weights_in_a_mixture_as_in_the_dense_decoder():
    dense, mixture = (wiring.build_decoder(recipe(case), VOCAB) for case in ("", "mlp=moe"))
    assert (
        count_forward_flops(mixture, TIME) == count_forward_flops(dense, TIME) + 2 * TIME * 3 * 60 * 4
    )  # and the routers'


# -- residuals


@pytest.mark.parametrize("block", choices("block"))
@pytest.mark.parametrize("streams", [1, 3])
def test_hyper_connections_start_as_the_pre_norm_residual(streams: int, block: str):
    hyper, pre = (
        wiring.build_decoder(recipe(f"residual={residual} block={block}"), VOCAB).double()
        for residual in (f"hyper residual.streams={streams}", "pre")
    )
    close(hyper(tokens(BATCH, TIME)).logits, pre(tokens(BATCH, TIME)).logits)


def test_hyper_connections_are_their_formula():
    residual = moved(Hyper(SHAPE, 1, "mlp", RMSNorm, streams=3, dynamic=False))
    stream, y = normal(BATCH, TIME, 3, 60), normal(BATCH, TIME, 60, key="y")
    close(residual.read(stream), residual.norm(torch.einsum("i,btid->btd", residual.take, stream)))
    mixed = torch.einsum("ij,btjd->btid", residual.mix.view(3, 3), stream)
    close(residual.write(stream, y), mixed + torch.einsum("i,btd->btid", residual.give, y))
    close(residual.collapse(residual.expand(y)), y)


def test_dynamic_hyper_connections_are_the_paper_s_equations_token_by_token():
    residual = moved(Hyper(SHAPE, 1, "mlp", RMSNorm, streams=3))
    stream, y = normal(BATCH, TIME, 3, 60), normal(BATCH, TIME, 60, key="y")
    said, written = residual.read(stream), residual.write(stream, y)
    w_take, w_write = residual.dynamic_take.weight, residual.dynamic_write.weight
    for b, t in itertools.product(range(BATCH), range(TIME)):
        h = stream[b, t]
        u = h / (h.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        take = residual.take + residual.alpha * torch.tanh(u @ w_take[0])
        mix = residual.mix.view(3, 3) + residual.alpha * torch.tanh(u @ w_write[:3].T).T  # row: to, column: from
        give = residual.give + residual.beta * torch.tanh(u @ w_write[3])
        close(said[b, t], residual.norm(take @ h))
        close(written[b, t], mix @ h + give[:, None] * y[b, t])


def test_hyper_connections_are_dynamic_and_four_by_default():
    residual = decoder("residual=hyper").layers[0].attention_residual
    assert isinstance(residual, Hyper)
    assert (residual.streams, residual.dynamic) == (4, True)


def test_each_branch_of_hyper_connections_takes_another_stream_first():
    takes = [Hyper(SHAPE, n // 2, ("attention", "mlp")[n % 2], RMSNorm, streams=3).take.tolist() for n in range(6)]
    assert takes == torch.eye(3).repeat(2, 1).tolist()


# -- sizes and first values


@pytest.mark.parametrize(
    ("model", "count"),
    [("gpt2", 124_439_808), ("gpt2_medium", 354_823_168), ("gpt2_large", 774_030_080), ("gpt2_xl", 1_557_611_200)],
)
def test_gpt2_has_its_published_number_of_parameters(model: str, count: int):
    made = composed("experiment=gpt2", f"model={model}", "vocab_multiple=1")
    with torch.device("meta"):
        parts = build_uninitialized(made, 50257).parameters()
    assert sum(p.numel() for p in parts) == count


def test_gpt2_starts_small_and_what_writes_into_the_stream_smaller():
    made = wiring.build_decoder(composed("experiment=gpt2", "model=mini"), 65)
    for name, p in made.named_parameters():
        if p.ndim == 2:
            wanted = 0.02 / math.sqrt(2 * 6) if name.endswith(".out.weight") else 0.02
            assert p.std().item() == pytest.approx(wanted, rel=0.05), name
        else:
            assert (p == (1 if "norm" in name and name.endswith("weight") else 0)).all(), name


def test_parts_work_in_a_bare_interpreter():
    from gptlab.model.block.sequential import Sequential
    from gptlab.model.readout.linear import LinearReadout
    from gptlab.model.residual.pre import Pre

    parts: dict[str, Any] = {
        "norm": RMSNorm,
        "mlp": PlainMlp,
        "residual": Pre,
        "block": Sequential,
        "readout": LinearReadout,
    }
    made = Decoder(SHAPE, attention=partial(SoftmaxAttention, kv_heads=3), position=Rope, **parts)
    assert made(tokens(BATCH, TIME)).logits.shape == (BATCH, TIME, VOCAB)
    with pytest.raises(ValueError, match="cannot honour"):
        Decoder(SHAPE, attention=Deaf, position=Alibi, **parts)


def test_layers_of_different_streams_are_refused():
    made = composed(*SIZES).config
    kinds = {name: menu(*SIZES)["residual"][name] for name in ("pre", "hyper")}
    tiled = {"_target_": "gptlab.model.decoder.pattern", "_partial_": True, "layout": [*kinds], "kinds": kinds}
    with pytest.raises(ValueError, match=r"residual: layers of \[1, 4\] streams"):
        wiring.build_decoder(Recipe(made | {"residual": tiled}), VOCAB)


class Deaf(SoftmaxAttention):
    """Honours no bias."""

    supports = frozenset({"embed", "rotate"})
