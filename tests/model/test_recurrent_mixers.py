"""Recurrent mixers against transformers' layers on the same weights, and against their formulas token by token."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import VOCAB, normal, perturb
from torch import Tensor, nn

from gptlab.model.attention import Attention
from gptlab.model.attention.gated_deltanet import GatedDeltaNet
from gptlab.model.attention.gla import GatedLinearAttention
from gptlab.model.attention.kda import KimiDeltaAttention
from gptlab.model.attention.mamba2 import Mamba2
from gptlab.model.attention.rwkv7 import RWKV7
from gptlab.model.forward_pass import ForwardPass
from gptlab.model.position import Position
from gptlab.model.shape import Shape

SHAPE = Shape(width=24, heads=3, layers=2, context=64, vocab=VOCAB)
BATCH, TIME = 2, 13
close = torch.testing.assert_close


def moved(attention: Any) -> Any:
    """An attention in float64, every weight moved so that nothing is zero by luck."""
    attention = attention.double()
    perturb(attention, 0.3)
    return attention


def attended(attention: Attention, x: Tensor) -> Tensor:
    at = torch.arange(x.shape[1])[None]
    return attention(x, ForwardPass(at, at, Position(SHAPE), default_positions=True))


def copy_weights(theirs: nn.Module, pairs: dict[str, Tensor]) -> None:
    """Give another's layer our weights; every one of its parameters must be among them."""
    theirs.load_state_dict({name: p.detach().float() for name, p in pairs.items()}, strict=True)


def convolution(taps: Tensor) -> Tensor:
    """Taps (size, channels) as nn.Conv1d has them."""
    return taps.T[:, None]


@pytest.mark.parametrize(("expand_v", "negative"), [(1, False), (2, True)])
def test_gated_deltanet_is_that_of_transformers(expand_v: int, negative: bool):
    theirs = pytest.importorskip("transformers.models.olmo_hybrid.modeling_olmo_hybrid")
    config = theirs.OlmoHybridConfig(
        hidden_size=24,
        num_hidden_layers=2,
        layer_types=["linear_attention", "full_attention"],
        linear_num_key_heads=3,
        linear_num_value_heads=3,
        linear_key_head_dim=8,
        linear_value_head_dim=8 * expand_v,
        linear_allow_neg_eigval=negative,
    )
    layer = theirs.OlmoHybridGatedDeltaNet(config, 0)
    ours = moved(GatedDeltaNet(SHAPE, expand_v=expand_v, allow_neg_eigval=negative, chunk=4))
    names = {"q": "q", "k": "k", "v": "v", "a": "decay", "b": "beta", "g": "gate", "o": "out"}
    weights = {f"{name}_proj.weight": ours.get_submodule(own).weight for name, own in names.items()}
    weights |= {"conv1d.weight": convolution(ours.conv.taps), "o_norm.weight": ours.norm.weight}
    weights |= {"A_log": ours.time_scale.log_rate, "dt_bias": ours.time_scale.shift}
    copy_weights(layer, weights)
    x = normal(BATCH, TIME, 24)
    close(attended(ours, x).float(), layer(x.float()), atol=1e-4, rtol=1e-4)


def test_kimi_delta_attention_is_that_of_transformers():
    theirs = pytest.importorskip("transformers.models.kimi_linear.modeling_kimi_linear")
    config = theirs.KimiLinearConfig(
        hidden_size=24,
        num_hidden_layers=2,
        linear_num_heads=3,
        linear_head_dim=8,
        rms_norm_eps=1e-5,
        layer_types=["linear_attention", "full_attention"],
    )
    layer = theirs.KimiLinearDeltaAttention(config, 0)
    ours = moved(KimiDeltaAttention(SHAPE, chunk=4))
    nn.init.zeros_(ours.gate_up.bias)  # theirs has none; flash-linear-attention's has
    names = {"q_proj": "q", "k_proj": "k", "v_proj": "v", "b_proj": "beta", "o_proj": "out", "o_norm": "norm"}
    names |= {"g_a_proj": "gate_down", "g_b_proj": "gate_up"}
    names |= {"forget_gate.f_a_proj": "decay_down", "forget_gate.f_b_proj": "decay_up"}
    weights = {f"{name}.weight": ours.get_submodule(own).weight for name, own in names.items()}
    weights |= {"conv1d.weight": convolution(ours.conv.taps), "forget_gate.dt_bias": ours.time_scale.shift}
    weights["forget_gate.A_log"] = ours.time_scale.log_rate.view(1, 1, -1, 1)
    copy_weights(layer, weights)
    x = normal(BATCH, TIME, 24)
    close(attended(ours, x).float(), layer(x.float()), atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:.*fast path")
def test_mamba2_is_that_of_transformers():
    theirs = pytest.importorskip("transformers.models.mamba2.modeling_mamba2")
    config = theirs.Mamba2Config(
        hidden_size=24, num_heads=6, head_dim=8, state_size=10, expand=2, n_groups=1, chunk_size=4, use_bias=False
    )
    layer = theirs.Mamba2Mixer(config, 0)
    ours = moved(Mamba2(SHAPE, state=10, chunk=4))

    def reorder(queries_keys_values: Tensor) -> Tensor:
        """Theirs are values (x), keys (B), queries (C)."""
        q, k, v = queries_keys_values.split([10, 10, 48], 0)
        return torch.cat([v, k, q], 0)

    projected = torch.cat([ours.q.weight, ours.k.weight, ours.v.weight])
    weights = {
        "in_proj.weight": torch.cat([ours.gate.weight, reorder(projected), ours.decay.weight]),
        "conv1d.weight": reorder(convolution(ours.conv.taps)),
        "conv1d.bias": reorder(ours.conv.bias),
        "A_log": ours.time_scale.log_rate,
        "dt_bias": ours.time_scale.shift,
        "D": ours.skip,
        "norm.weight": ours.norm.weight,
        "out_proj.weight": ours.out.weight,
    }
    copy_weights(layer, weights)
    x = normal(BATCH, TIME, 24)
    close(attended(ours, x).float(), layer(x.float()), atol=1e-4, rtol=1e-4)


def test_gated_linear_attention_is_its_formula_token_by_token():
    ours, x = moved(GatedLinearAttention(SHAPE, chunk=4)), normal(BATCH, TIME, 24)
    state, outputs = torch.zeros(BATCH, 3, 4, 8).double(), []
    for t in range(TIME):
        q, k, v = (part(x[:, t]).unflatten(-1, (3, -1)) for part in (ours.q, ours.k, ours.v))
        alpha = ours.decay_up(ours.decay_down(x[:, t])).sigmoid().unflatten(-1, (3, -1)) ** (1 / 16)
        state = alpha[..., None] * state + k[..., None] * v[..., None, :]
        y = torch.einsum("bhd,bhde->bhe", q / 4**0.5, state)
        y = y / (y.square().mean(-1, keepdim=True) + 1e-5).sqrt() * ours.norm.weight
        outputs.append(ours.out(F.silu(ours.gate(x[:, t])) * y.flatten(-2)))
    close(attended(ours, x), torch.stack(outputs, 1))


def test_rwkv7_is_its_formula_token_by_token():
    first, ours = moved(RWKV7(SHAPE, 0, chunk=4)), moved(RWKV7(SHAPE, 1, chunk=4))
    x, z = normal(BATCH, TIME, 24), normal(BATCH, TIME, 24, key="z")
    at = torch.arange(TIME)[None]
    forward_pass = ForwardPass(at, at, Position(SHAPE), default_positions=True)
    first(z, forward_pass)
    shares = dict(zip(("q", "decay", "k", "v", "rate", "gate"), ours.shift.unflatten(0, (6, -1)), strict=True))
    value_shares = first.shift.unflatten(0, (6, -1))[3]
    state, outputs = torch.zeros(BATCH, 3, 8, 8).double(), []  # values x keys, as the paper has it
    for t in range(TIME):
        before = [torch.zeros_like(x[:, 0]) if t == 0 else text[:, t - 1] for text in (x, z)]
        read = {name: x[:, t] + share * (before[0] - x[:, t]) for name, share in shares.items()}
        first_v = first.v(z[:, t] + value_shares * (before[1] - z[:, t]))
        w = torch.exp(-(-0.5 * torch.ones(1)).exp() * thin(ours, "decay", read["decay"], torch.tanh).sigmoid())
        rate, blend = (
            thin(ours, name, read[at], lambda x: x).sigmoid() for name, at in (("rate", "rate"), ("blend", "v"))
        )
        gate = ours.up["gate"](ours.down["gate"](read["gate"]).sigmoid())
        key, v = ours.k(read["k"]), ours.v(read["v"])
        v = v + blend * (first_v - v)
        erased = F.normalize((key * ours.key_scale).unflatten(-1, (3, -1)), dim=-1)
        key = key * (1 + (rate - 1) * ours.key_rate)
        q, key, v, w, rate = (part.unflatten(-1, (3, -1)) for part in (ours.q(read["q"]), key, v, w, rate))
        transition = torch.diag_embed(w) - erased[..., :, None] * (rate * erased)[..., None, :]
        state = state @ transition + v[..., :, None] * key[..., None, :]
        y = (state @ q[..., None])[..., 0]
        y = (y - y.mean(-1, keepdim=True)) / (y.var(-1, keepdim=True, correction=0) + 8e-5).sqrt()
        y = y.flatten(-2) * ours.norm.weight + ours.norm.bias
        bonus = (q * ours.bonus.unflatten(0, (3, -1)) * key).sum(-1, keepdim=True) * v
        outputs.append(ours.out(gate * (y + bonus.flatten(-2))))
    close(ours(x, forward_pass), torch.stack(outputs, 1))


def thin(ours: RWKV7, name: str, x: Tensor, between: Any) -> Tensor:
    """One of the pairs of thin Linears, with its vector."""
    return getattr(ours, name) + ours.up[name](between(ours.down[name](x)))


def test_a_head_of_gated_deltanet_keeps_the_last_value_of_a_key():
    ours = GatedDeltaNet(SHAPE).double()
    ours.time_scale.log_rate.data.fill_(-40.0)  # forgets nothing
    ours.beta = nn.Linear(24, 3).double()
    nn.init.zeros_(ours.beta.weight)
    nn.init.constant_(ours.beta.bias, 40.0)  # replaces all
    ours.conv.taps.data.copy_(torch.eye(4)[-1:].T.expand(-1, 72))  # sees its own token alone
    ours.gate, ours.norm, ours.out = (nn.Identity() for _ in range(3))  # type: ignore[assignment]
    x = normal(1, 3, 24)
    x[:, 2] = x[:, 0]
    cache = ours.new_cache(1, 3, x)
    at = torch.arange(3)[None]
    ours(x, ForwardPass(at, at, Position(SHAPE), default_positions=True), cache)
    key = F.normalize(F.silu(ours.k(x[:, 2])).unflatten(-1, (3, -1)), dim=-1)
    found = torch.einsum("bhd,bhde->bhe", key, cache.rows["state"])
    close(found.flatten(-2), F.silu(ours.v(x[:, 2])), atol=1e-4, rtol=1e-4)


def test_rwkv7_under_another_first_layer_is_refused():
    with pytest.raises(ValueError, match="rwkv7 in layer 1 blends in the values of layer 0, which is GatedDeltaNet"):
        RWKV7(SHAPE, 1).check_compatible(Position(SHAPE), [GatedDeltaNet(SHAPE)])


@pytest.mark.parametrize("make", [GatedDeltaNet, KimiDeltaAttention, GatedLinearAttention, Mamba2, RWKV7])
def test_a_step_costs_the_same_after_any_length(make: Any):
    attention = make(SHAPE)
    assert attention.new_cache(1, 7, torch.empty(0)).nbytes == attention.new_cache(1, 4000, torch.empty(0)).nbytes
    assert attention.flops(128) == 2 * attention.flops(64)
    with pytest.raises(ValueError, match="chunk=12 is not a power of 2; try 64"):
        make(SHAPE, chunk=12)
