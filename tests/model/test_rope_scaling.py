"""Rotary positions for longer contexts: the frequencies of the papers, as transformers has them."""

import math

import pytest
import torch

from gptlab.model.rope_scaling import Scaling, ScalingKind, attention_factor, compute_frequencies

PAIR = torch.arange(0, 128, 2, dtype=torch.float64)
KINDS: dict[ScalingKind, Scaling] = {
    "linear": Scaling("linear", 4.0, 1024, 1.0, None),
    "ntk": Scaling("ntk", 4.0, 1024, 1.0, None),
    "llama3": Scaling("llama3", 8.0, 8192, 1.0, 4.0),
    "yarn": Scaling("yarn", 4.0, 1024, 1.0, 32.0),
}


def test_llama3_leaves_fast_pairs_and_squeezes_slow_ones():
    share = compute_frequencies(PAIR, 128, 5e5, KINDS["llama3"]) / compute_frequencies(PAIR, 128, 5e5, None)
    assert (share[:29] == 1).all()
    assert (share[35:] == 0.125).all()
    known = {29: 0.828168, 30: 0.643743, 32: 0.371122, 34: 0.190211}
    assert [share[at].item() for at in known] == pytest.approx([*known.values()], abs=1e-6)


def test_ntk_keeps_the_fastest_pair_and_squeezes_the_slowest_by_the_factor():
    share = compute_frequencies(PAIR, 128, 1e4, KINDS["ntk"]) / compute_frequencies(PAIR, 128, 1e4, None)
    assert share[0] == 1
    assert share[-1].item() == pytest.approx(1 / 4)
    assert (share.diff() < 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_factor_of_one_changes_nothing(kind: ScalingKind):
    same = Scaling(kind, 1.0, 1024, 1.0, None)
    torch.testing.assert_close(compute_frequencies(PAIR, 128, 1e4, same), compute_frequencies(PAIR, 128, 1e4, None))
    assert attention_factor(same) == 1


@pytest.mark.parametrize("kind", ["linear", "llama3", "yarn"])
@pytest.mark.parametrize("width", [8, 64, 128])
def test_transformers_has_the_same_frequencies(kind: ScalingKind, width: int):
    rotary = pytest.importorskip("transformers.modeling_rope_utils", reason="transformers is not installed")
    from transformers import LlamaConfig

    one = KINDS[kind]
    told = {"rope_type": kind, "rope_theta": 1e4, "factor": one.factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    told["original_max_position_embeddings"] = one.original
    longest = int(one.original * one.factor)
    config = LlamaConfig(
        hidden_size=2 * width, num_attention_heads=2, max_position_embeddings=longest, rope_parameters=told
    )
    wanted, factor = rotary.ROPE_INIT_FUNCTIONS[kind](config, "cpu")
    pair = torch.arange(0, width, 2, dtype=torch.float32)
    torch.testing.assert_close(compute_frequencies(pair, width, 1e4, one), wanted, rtol=1e-5, atol=0)
    assert attention_factor(one) == pytest.approx(factor)


def test_yarn_is_louder():
    assert attention_factor(KINDS["yarn"]) == 0.1 * math.log(4) + 1
