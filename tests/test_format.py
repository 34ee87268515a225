"""Laws of number formats: each says what its definition says, and none looks ahead."""

import json
from functools import cache
from typing import Any

import pytest
import torch
import yaml
from conftest import CONF, ROOT, choices

from gptlab.factory import factory

VECTORS = ROOT.parent / "shared" / "vectors" / "quantizers.json"
KNOBS = {
    "frac_width": "fraction_width",
    "round": "rounding",
    "exponent_bias_width": "bias_width",
}
"""Their words for our knobs."""


def made(choice: str, **knobs: Any) -> Any:
    """A format as a config makes it."""
    node = yaml.safe_load((CONF / "format" / f"{choice}.yaml").read_text())
    assert set(knobs) <= set(node)
    return factory({**node, **knobs}, "format")()


# -- what the definitions say

BY_HAND = [
    ("integer", {"width": 8, "fraction_width": 4}, [1 / 32, 3 / 32, -1 / 32, 7.97, -8.1], [0, 0.125, 0, 7.9375, -8]),
    ("integer", {"width": 4, "fraction_width": 2, "rounding": "floor"}, [0.49, -0.01, 9], [0.25, -0.25, 1.75]),
    ("integer", {"width": 4, "fraction_width": 4, "signed": False}, [-0.2, 0.97, 3 / 32], [0, 0.9375, 0.125]),
    ("integer", {"width": 4, "fraction_width": -2}, [2, 6, 7, -100], [0, 8, 8, -32]),
    ("minifloat_denorm", {}, [1, 0.3, 1.97, 300, 1e-3, 4e-4], [1, 0.3125, 2, 224, 2**-10, 0]),
    ("minifloat_denorm", {"width": 4, "exponent_width": 2}, [0.3, 0.75, -1.1, 3.5], [0.25, 1, -1, 2]),
    ("minifloat_ieee", {}, [1, 1.97, 300, 500, 2**-10, 1.5 * 2**-10], [1, 2, 288, 480, 0, 2**-9]),
    ("minifloat_ieee", {"width": 4, "exponent_width": 2}, [0.25, 0.75, 1.25, 2.6, -7], [0, 1, 1, 3, -6]),
]


@pytest.mark.parametrize(("choice", "knobs", "given", "said"), BY_HAND)
def test_a_format_says_what_is_worked_out_by_hand(choice: str, knobs: dict[str, Any], given: list, said: list):
    for dtype in (torch.float32, torch.float64):
        assert made(choice, **knobs)(torch.tensor(given, dtype=dtype)).tolist() == said


@cache
def vectors() -> list[dict[str, Any]]:
    return [v for v in json.loads(VECTORS.read_text()) if v["name"] in choices("format")] if VECTORS.exists() else []


@pytest.mark.skipif(not VECTORS.exists(), reason=f"{VECTORS} is not there")
@pytest.mark.parametrize("vector", vectors(), ids=lambda vector: vector["name"])
def test_a_format_says_what_the_reference_says(vector: dict[str, Any]):
    choice = vector["name"]
    knobs = {KNOBS.get(key, key): value for key, value in vector["params"].items()}
    given = torch.tensor(vector["input"], dtype=torch.float64)
    said = made(choice, **knobs)(given)
    wanted = torch.tensor(vector["output"], dtype=torch.float64)
    assert torch.equal(said.flatten(), wanted)
