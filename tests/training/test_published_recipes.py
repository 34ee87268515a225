"""Laws of the three character models: they are the published ones, parameter for parameter and slip for slip."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import composed, normal, perturb, tokens
from torch import Tensor

from gptlab.model.decoder import Decoder
from gptlab.training.build import build_decoder

VOCAB = 65
COUNTS = {"small": 157_889, "medium": 7_144_001, "large": 7_144_001}
FIXED = ("final_norm=true", "attention.scale=null")


def model(size: str, *more: str) -> Decoder:
    """One of the three, over the characters of Tiny Shakespeare."""
    return build_decoder(composed(f"experiment=three_sizes_{size}", *more), VOCAB)


@pytest.mark.parametrize("size", COUNTS)
def test_parameters_are_those_of_the_original(size: str):
    assert sum(p.numel() for p in model(size, *FIXED).parameters()) == COUNTS[size]
    width = model(size).shape.width
    assert sum(p.numel() for p in model(size).parameters()) == COUNTS[size] - 2 * width  # the norm it never used


@pytest.mark.parametrize("size", COUNTS)
def test_recipes_are_those_of_the_original(size: str):
    config = composed(f"experiment=three_sizes_{size}").config
    batch, context = {"small": (8, 4), "medium": (32, 128), "large": (64, 256)}[size]
    assert (config["batch_size"], config["model"]["context"]) == (batch, context)
    assert (config["steps"], config["clip"], config["evaluation"]["every"]) == (5000, None, 500)
    optimizer = config["optimizer"]
    assert (optimizer["lr"], optimizer["betas"], optimizer["weight_decay"]) == (3e-4, [0.9, 0.999], 0.01)
    assert config["schedule"]["warmup"] == 0
    assert (config["dropout"], config["attention"]["dropout"], config["residual"]["dropout"]) == (0, 0.2, 0.2)


@pytest.mark.parametrize("slips", [True, False])
def test_the_decoder_is_the_original_s_formula(slips: bool):
    made = model("small", *(() if slips else FIXED)).double().eval()
    perturb(made)
    now, parameters = tokens(2, 4, below=VOCAB), dict(made.named_parameters())
    with torch.no_grad():
        torch.testing.assert_close(made(now).logits, written_out(parameters, now, slips))


def written_out(p: dict[str, Any], now: Tensor, slips: bool) -> Tensor:
    """The logits of the first model, by hand."""
    width, heads = 64, 4
    at, pair = torch.arange(4)[:, None].double(), torch.arange(0, width, 2).double()
    angle = at / 10000 ** (pair / width)
    x = p["embedding.weight"][now] + torch.stack([angle.sin(), angle.cos()], -1).flatten(-2)
    for layer in range(3):
        at = f"blocks.{layer}"
        h = F.layer_norm(
            x, (width,), p[f"{at}.attention_residual.norm.weight"], p[f"{at}.attention_residual.norm.bias"]
        )
        q, k, v = (
            F.linear(h, p[f"{at}.attention.{n}.weight"]).unflatten(-1, (heads, -1)).transpose(1, 2) for n in "qkv"
        )
        scores = q @ k.mT / math.sqrt(width if slips else width // heads)
        scores = scores.masked_fill(torch.ones(4, 4).triu(1).bool(), -math.inf)
        y = (scores.softmax(-1) @ v).transpose(1, 2).flatten(-2)
        x = x + F.linear(y, p[f"{at}.attention.out.weight"], p[f"{at}.attention.out.bias"])
        h = F.layer_norm(x, (width,), p[f"{at}.mlp_residual.norm.weight"], p[f"{at}.mlp_residual.norm.bias"])
        h = F.linear(h, p[f"{at}.mlp.up.weight"], p[f"{at}.mlp.up.bias"]).relu()
        x = x + F.linear(h, p[f"{at}.mlp.out.weight"], p[f"{at}.mlp.out.bias"])
    if not slips:
        x = F.layer_norm(x, (width,), p["norm.weight"], p["norm.bias"])
    return F.linear(x, p["readout.head.weight"], p["readout.head.bias"])


@pytest.mark.parametrize("final_norm", ["true", "false"])
def test_the_last_norm_is_there_or_is_nothing(final_norm: str):
    made = build_decoder(composed("model=nano", f"final_norm={final_norm}"), VOCAB).double()
    x = 3 * normal(2, 5, 64)
    assert torch.equal(made.norm(x), x) == (final_norm == "false")
