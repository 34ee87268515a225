"""Laws of number formats: each says what its definition says, and none looks ahead."""

import json
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import BATCH, CONF, ROOT, TIME, choices, normal
from torch import Tensor, nn

from gptlab.config.factory import check_node, factory, list_knobs, locate, read_knobs
from gptlab.errors import Refused

EVERY = choices("format")
ROWS = ("binary_scaling", "int8")
"""What asks of a whole row."""
BLOCKS = [choice for choice in EVERY if choice.startswith(("block_", "mx"))]
VECTORS = ROOT.parent / "shared" / "vectors" / "quantizers.json"


def node(choice: str) -> dict[str, Any]:
    return yaml.safe_load((CONF / "format" / f"{choice}.yaml").read_text())


UNFITTED = {"integer": {"fraction_width": None}, "binary_residual": {"gamma": "learnt"}}
"""Knobs with which formats say the same of a value whatever stands beside it; by default these two are fitted."""


def made(choice: str, **asked: Any) -> Any:
    """A format as a config makes it, unfitted unless `asked` says otherwise."""
    assert set(asked) <= set(node(choice))
    return factory({**node(choice), **UNFITTED.get(choice, {}), **asked}, "format")()


def test_fixed_point_and_signs_are_fitted_by_default_so_that_small_weights_keep_their_size():
    small = 0.02 * normal(60, 77)
    for choice, noise in (("integer", 0.02), ("binary_residual", 0.4)):
        said = factory(node(choice), "format")()(small)
        assert (said - small).square().mean().sqrt() < noise * 0.02, choice
        assert (made(choice)(small) - small).square().mean().sqrt() > noise * 0.02, choice


def wide(*shape: int, key: str = "wide") -> Tensor:
    """Random numbers of all sizes in float64, as a float32 can hold them."""
    return (normal(*shape, key=key) * 2 ** (12 * normal(*shape, key=f"size {key}"))).float().double()


def steep() -> Tensor:
    """Numbers beyond what a format can say: a row that fills its last binade, and one that is out of all proportion."""
    return torch.cat([wide(7, 77), torch.full((1, 77), 1.9999), 1e30 * normal(1, 77)])


def test_nothing_is_left_out():
    ten = {"integer", "minifloat_denorm", "minifloat_ieee", "log", "block_fp", "block_minifloat", "block_log"}
    ten |= {"binary", "binary_scaling", "binary_residual"}
    ten |= {"int8"}  # a setting of integer
    assert set(EVERY) == ten | {"mxint8", "mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e3m2", "mxfp6_e2m3", "mxfp4"}


@pytest.mark.parametrize("choice", EVERY)
def test_yaml_keys_are_the_signature(choice: str):
    assert not list(check_node(node(choice), "format"))
    signature = read_knobs(locate(node(choice)["_target_"], "format"))
    assert set(list_knobs(node(choice))) == set(signature)
    setting = {"element", *(["fraction_width"] if choice == "int8" else [])}  # what makes one of a family
    assert all(node(choice)[name] == p.default for name, p in signature.items() if name not in setting)


# -- what the definitions say

BY_HAND: list[tuple[str, dict[str, Any], list[float], list[float]]] = [
    ("integer", {"fraction_width": 4}, [1 / 32, 3 / 32, -1 / 32, 7.97, -8.1], [0, 0.125, 0, 7.9375, -8]),
    ("integer", {"width": 4, "fraction_width": 2, "rounding": "floor"}, [0.49, -0.01, 9], [0.25, -0.25, 1.75]),
    ("integer", {"width": 4, "fraction_width": 4, "signed": False}, [-0.2, 0.97, 3 / 32], [0, 0.9375, 0.125]),
    ("integer", {"width": 4, "fraction_width": -2}, [2, 6, 7, -100], [0, 8, 8, -32]),
    ("integer", {"width": 4, "fraction_width": 6}, [2**-7, 3 * 2**-7, 1], [0, 2**-5, 7 / 64]),
    ("int8", {}, [1, 1 / 128, 0.3], [127 / 128, 1 / 128, 38 / 128]),  # a power of two is one step too large
    ("int8", {}, [0, 100, -0.49, -0.51], [0, 100, 0, -1]),
    ("integer", {"width": 4, "fraction_width": "tensor"}, [2.5, -0.3, 0.2], [2.5, -0.5, 0]),
    ("minifloat_denorm", {}, [1, 0.3, 1.97, 300, 2**-10, 4e-4], [1, 0.3125, 2, 224, 2**-10, 0]),
    ("minifloat_denorm", {"width": 4, "exponent_width": 2}, [0.3, 0.75, -1.1, 3.5], [0.25, 1, -1, 2]),
    ("minifloat_ieee", {}, [1, 1.97, 300, 500, 2**-10, 1.5 * 2**-10], [1, 2, 288, 480, 0, 2**-9]),
    ("minifloat_ieee", {"width": 4, "exponent_width": 2}, [0.25, 0.75, 1.25, 2.6, -7], [0, 1, 1, 3, -6]),
    ("log", {}, [0, 1, 1.4, 1.42, -3, 1e-30], [0, 1, 1, 2, -4, 0]),
    ("log", {"width": 4}, [0, 0.1, 0.2, -0.3, 3, 50], [0, 0, 0.25, -0.25, 4, 16]),
    ("log", {"width": 4, "zero": "none"}, [0, -0.01, 0.1, -0.3, 50], [0.125, -0.125, 0.125, -0.25, 16]),
    ("block_fp", {"width": 4, "block": 4}, [1, 0.5, -0.3, 0.06, 0.99, 0.5], [1, 0.5, -0.25, 0, 0.875, 0.5]),
    ("block_fp", {"width": 4, "block": 2, "exponent_width": 2}, [9, 1, 0.01, 0.2], [3.5, 1, 0, 0.1875]),
    ("block_minifloat", {"block": 4}, [0.01, 0.005, -0.003, 0.0006], [0.009765625, 5 / 1024, -3 / 1024, 5 / 8192]),
    ("block_minifloat", {"block": 3}, [100, 50, -3, 0.06], [96, 48, -3, 0.05859375]),
    ("block_log", {"block": 4}, [0.01, 0.005, -0.003, 0, 6, 1, -0.2], [2**-7, 2**-8, -(2**-8), 0, 8, 1, -0.25]),
    ("block_log", {"width": 4, "block": 4}, [6, 1, -0.2, 0.01], [8, 1, -0.25, 0]),
    ("binary", {}, [0.3, -0.2, 0, -0.0], [1, -1, 1, 1]),
    ("binary", {"bipolar": False}, [0.3, -0.2, 0], [1, 0, 1]),
    ("binary_scaling", {}, [1, -0.5, 0, 0.5], [0.5, -0.5, 0.5, 0.5]),
    ("binary_residual", {"levels": 1}, [0.9, -0.05, 0], [1, -1, 1]),
    ("binary_residual", {"gamma": "greedy"}, [1, -0.5, 0, 0.5], [0.75, -0.25, 0.25, 0.75]),
    ("mxint8", {}, [1, -0.5, 0.3, 1 / 128, -1.99609375], [1, -0.5, 0.296875, 0, -1.984375]),
    ("mxint8", {}, [1, 0.5 / 64, 1.5 / 64, 2.5 / 64], [1, 0, 0.03125, 0.03125]),
    ("mxfp8_e4m3", {}, [100, 50, -3, 0.06], [96, 48, -3, 0.05859375]),
    ("mxfp8_e4m3", {}, [1.9], [1.75]),
    ("mxfp8_e4m3", {"scale_mode": "ceil"}, [1.1], [1.125]),
    ("mxfp8_e4m3", {"scale_mode": "rceil"}, [1.9], [1.875]),
    ("mxfp8_e4m3", {"scale_mode": "even"}, [1.9], [1.75]),
    ("mxfp8_e4m3", {"scale_mode": "even"}, [1.94], [2]),
    ("mxfp8_e5m2", {}, [7.9, -7.9, 1.25, 2.5, 0.1], [7, -7, 1.25, 2.5, 0.09375]),
    ("mxfp6_e3m2", {}, [7.9, -7.9, 1.25, 2.5, 0.1], [7, -7, 1.25, 2.5, 0.09375]),
    ("mxfp6_e2m3", {}, [7.9, -7.9, 1.25, 2.5, 0.1], [7.5, -7.5, 1.25, 2.5, 0.125]),
    ("mxfp4", {}, [7.9, -7.9, 1.25, 2.5, 0.1], [6, -6, 1, 2, 0]),
]


@pytest.mark.parametrize(("choice", "asked", "given", "said"), BY_HAND)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_format_says_what_is_worked_out_by_hand(choice: str, asked: dict, given: list, said: list, dtype: Any):
    assert made(choice, **asked)(torch.tensor(given, dtype=dtype)).tolist() == said


def test_32_bits_are_clamped_where_their_bound_is_a_number():
    said = made("integer", width=32, fraction_width=16)(torch.tensor([1e6], dtype=torch.float64))
    assert said.item() == 2.0**15 - 2.0**-16


THEIR_NAMES = {"binary_residual_sign": "binary_residual", "mx_int8": "mxint8", "mx_e2m1": "mxfp4"}
THEIR_NAMES |= {
    f"mx_{kind}": f"mxfp{bits}_{kind}" for kind, bits in (("e4m3", 8), ("e5m2", 8), ("e3m2", 6), ("e2m3", 6))
}
THEIR_KNOBS = {"frac_width": "fraction_width", "exponent_bias_width": "bias_width", "round": "rounding"}


def vectors() -> Any:
    return json.loads(VECTORS.read_text()) if VECTORS.exists() else []


@pytest.mark.skipif(not VECTORS.exists(), reason=f"{VECTORS} is not there")
@pytest.mark.parametrize("vector", vectors(), ids=lambda vector: vector["name"])
def test_a_format_says_what_the_reference_says(vector: dict[str, Any]):
    name = vector["name"]
    choice = str(THEIR_NAMES.get(name, name))
    asked = {THEIR_KNOBS.get(key, key): value for key, value in vector["params"].items()}
    gamma = asked.pop("gamma", None)
    format = made(choice, **{key: value for key, value in asked.items() if key in node(choice)})
    if gamma:
        torch.testing.assert_close(format.gamma, nn.Parameter(torch.tensor(gamma)))
        format.gamma = nn.Parameter(torch.tensor(gamma, dtype=torch.float64))
    given, wanted = (torch.tensor(vector[key], dtype=torch.float64) for key in ("input", "output"))
    said = format(given).flatten()
    if choice == "binary_scaling":  # a mean, in some order
        torch.testing.assert_close(said, wanted, rtol=0, atol=1e-12)
    else:
        assert torch.equal(said, wanted)
    if "scale_byte" in vector:
        elements, byte = format.encode(given)
        assert elements.flatten()[: len(given)].tolist() == vector["element"]
        assert byte.item() == vector["scale_byte"]
    if "bias" in vector:
        assert (
            2 ** asked["exponent_width"] - 1 - format.compute_scales(given.abs().max()).log2().item() == vector["bias"]
        )


NOISE = {
    "integer": (
        ({"width": w, "fraction_width": w - 3}, db) for w, db in ((4, 16.81), (6, 28.81), (8, 40.24), (16, 49.20))
    ),
    "minifloat_ieee": [({}, 31.53)],
    "minifloat_denorm": [({}, 25.56)],
    "log": [({}, 13.80)],
    "block_fp": [({}, 42.74), ({"width": 4}, 18.62)],
    "block_minifloat": [({}, 31.35)],
    "binary": [({}, 3.94)],
    "binary_scaling": [({}, 4.41)],
    "mxint8": [({}, 41.62)],
    "mxfp8_e4m3": [({}, 30.60)],
    "mxfp8_e5m2": [({}, 25.36)],
    "mxfp6_e3m2": [({}, 25.36)],
    "mxfp6_e2m3": [({}, 30.94)],
    "mxfp4": [({}, 18.74)],
}
"""Signal to noise, in dB, on normal numbers: of an implementation of the definitions in numpy (2026-11)."""


@pytest.mark.parametrize(("choice", "asked", "db"), [(c, *case) for c, cases in NOISE.items() for case in cases])
def test_the_noise_of_a_format_is_the_reference_s(choice: str, asked: dict[str, Any], db: float):
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((64, 1024)))
    error = made(choice, **asked)(x) - x
    assert 10 * (x.square().mean() / error.square().mean()).log10().item() == pytest.approx(db, abs=0.006)


def test_greedy_signs_of_normal_numbers_are_the_reference_s():
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 64 * 1024)))
    for levels, db in ((1, 4.40), (2, 8.81), (3, 12.28)):
        error = made("binary_residual", gamma="greedy", levels=levels)(x) - x
        assert 10 * (x.square().mean() / error.square().mean()).log10().item() == pytest.approx(db, abs=0.006)


@pytest.mark.parametrize(("choice", "dtype"), [("mxfp8_e4m3", torch.float8_e4m3fn), ("mxfp8_e5m2", torch.float8_e5m2)])
def test_elements_round_as_torchs_own_floats_do(choice: str, dtype: torch.dtype):
    format = made(choice)
    x = wide(400, 32).float()
    elements, byte = format.encode(x)
    scaled = x[:, None] * 2.0 ** (127 - byte.double())
    assert torch.equal(
        elements.double(), scaled.clamp(-format.element.largest, format.element.largest).to(dtype).double()
    )


# -- what all formats keep


@pytest.mark.parametrize("choice", EVERY)
def test_what_is_said_once_is_said_again(choice: str):
    format = made(choice)
    for x in (wide(3, 77), normal(3, 77)):
        said = format(x)
        torch.testing.assert_close(format(said), said, rtol=1e-14 if choice.startswith("binary") else 0, atol=0)


@pytest.mark.parametrize("choice", EVERY)
def test_more_is_never_said_as_less(choice: str):
    for x in (wide(50, 16), normal(50, 16)):
        said = made(choice)(x.sort(-1).values)
        assert (said.diff(dim=-1) >= 0).all()


@pytest.mark.parametrize("choice", EVERY)
def test_the_other_sign_is_said_alike(choice: str):
    x = normal(3, 77)
    assert torch.equal(made(choice)(-x), -made(choice)(x))


@pytest.mark.parametrize("choice", EVERY)
def test_nothing_is_said_beyond_the_limits(choice: str):
    format = made(choice)
    x = steep()
    said = format(x)
    if choice == "binary_scaling":  # its limits are those of the gradient
        assert torch.equal(said.abs(), x.abs().mean(-1, keepdim=True).expand_as(x))
        return
    low, high = format.limits(x)
    assert ((low <= said) & (said <= high)).all()
    assert (said == high).any()


@pytest.mark.parametrize("choice", [one for one in EVERY if one not in (*BLOCKS, *ROWS)])
def test_infinity_is_said_as_the_largest(choice: str):
    format = made(choice)
    said = format(torch.tensor([torch.inf, -torch.inf, 1e38, -1e38]))
    low, high = (torch.as_tensor(limit) for limit in format.limits(torch.zeros(1)))
    torch.testing.assert_close(said, torch.stack([high, low, high, low]).flatten().float(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("choice", EVERY)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_no_number_is_told_of_what_is_none(choice: str, bad: float):
    x = normal(3, 77)
    format = made(choice)
    before = format(x)
    x[1, 40] = bad
    said, block = format(x), getattr(format, "block", 77 if choice in ROWS else 1)
    spoilt = torch.zeros(3, 77, dtype=torch.bool)
    if block > 1 or bad != bad:
        spoilt[1, 40 // block * block : (40 // block + 1) * block] = True
    assert torch.equal(said.isnan(), spoilt)
    spoilt[1, 40] = True
    assert torch.equal(said[~spoilt], before[~spoilt])


@pytest.mark.parametrize("choice", EVERY)
def test_zeros_stay_zeros_beside_others(choice: str):
    x = torch.cat([torch.zeros(2, 64), normal(2, 64).float()], -1)
    said = made(choice)(x)[:, :64]
    never = {"binary": 1.0, "binary_residual": 1 / 3, "binary_scaling": x.abs().mean(-1, keepdim=True)}
    torch.testing.assert_close(said, torch.zeros(2, 64) + never.get(choice, 0), rtol=1e-6, atol=0)
    assert torch.equal(made("binary_scaling")(torch.zeros(2, 5)), torch.zeros(2, 5))


@pytest.mark.parametrize("choice", BLOCKS)
def test_a_ragged_block_is_one_filled_up_with_zeros(choice: str):
    x = wide(2, 3, 77)
    filled = torch.cat([x, torch.zeros(2, 3, -77 % 32, dtype=x.dtype)], -1)
    assert torch.equal(made(choice)(x), made(choice)(filled)[..., :77])
    assert torch.equal(made(choice, block=100)(x), made(choice, block=77)(x))


@pytest.mark.parametrize("choice", BLOCKS)
def test_blocks_do_not_know_each_other(choice: str):
    x = wide(3, 77)
    format = made(choice)
    assert torch.equal(format(x), torch.cat([format(part) for part in x.split(format.block, -1)], -1))


@pytest.mark.parametrize("choice", EVERY)
def test_later_tokens_do_not_change_what_is_said_of_earlier_ones(choice: str):
    x = normal(BATCH, TIME, 60).float()
    format = made(choice)
    before = format(x)
    for t in (1, 9, TIME - 1):
        later = x.clone()
        later[:, t:] = -64 * later[:, t:]
        assert torch.equal(format(later)[:, :t], before[:, :t])
        assert torch.equal(format(x[:1, :t]), before[:1, :t])


KINDS = [(choice, ste) for choice in EVERY for ste in ("identity", "clipped")]


@pytest.mark.parametrize(("choice", "ste"), KINDS)
def test_the_gradient_goes_straight_through(choice: str, ste: str):
    x, dy = steep().requires_grad_(), normal(9, 77, key="dy")
    format = made(choice, ste=ste)
    (dx,) = torch.autograd.grad(format(x), (x,), dy)
    low, high = format.limits(x.detach())
    inside = (x >= low) & (x <= high)
    assert not inside.all()
    assert torch.equal(dx, dy if ste == "identity" else dy * inside)


def test_gammas_learn():
    format, x = made("binary_residual"), normal(3, 77).float()
    format(x).backward(torch.ones(3, 77))
    assert format.gamma.grad[0] == torch.where(x >= 0, 1, -1).sum()
    assert format.gamma.grad[1] != 0


@pytest.mark.parametrize("choice", EVERY)
def test_the_dtype_stays_and_float32_is_exact(choice: str):
    x = wide(3, 77)
    format = made(choice)
    for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float64):
        given = x.clamp(-9, 9).to(dtype)
        said = format(given)
        assert (said.dtype, said.shape) == (dtype, x.shape)
        if choice.startswith("binary_"):  # sums
            torch.testing.assert_close(said.float(), format(given.float()), rtol=1e-2, atol=0)
        else:
            assert torch.equal(said, format(given.double()).to(dtype))
    if not choice.startswith("binary_"):
        huge = (x * 2.0 ** torch.arange(-140, 60, 3)[:, None, None].double()).float()
        assert torch.equal(format(huge).double(), format(huge.double()).float().double())


@pytest.mark.parametrize("choice", EVERY)
def test_no_more_is_said_than_the_bits_can_tell(choice: str):
    format = made(choice)
    x = torch.cat([torch.linspace(-1.99, 1.99, 4001), torch.logspace(-40, 0, 4001), -torch.logspace(-40, 0, 4001)])
    if choice == "binary_scaling":
        assert len(format(x).unique()) == 2
        return
    rows = torch.stack([torch.full_like(x, 1.99), x], -1)  # the largest sets the scale
    values, bits = format(rows)[:, 1].unique(), int(format.bits(10**9))
    assert 2 ** (bits - 2) < len(values) <= 2**bits


@pytest.mark.parametrize(
    ("choice", "features", "bits"),
    [
        ("integer", 60, 8),
        ("int8", 64, 8.125),
        ("log", 60, 8),
        ("binary", 60, 1),
        ("binary_scaling", 64, 1.5),
        ("binary_residual", 64, 2),
        ("block_fp", 64, 8.5),
        ("block_log", 17, 8 + 16 / 17),
        ("block_minifloat", 8, 9),
        ("mxint8", 64, 8.25),
        ("mxint8", 33, 8 + 16 / 33),
        ("mxfp6_e2m3", 64, 6.25),
        ("mxfp4", 64, 4.25),
    ],
)
def test_bits_count_what_is_shared(choice: str, features: int, bits: float):
    assert made(choice).bits(features) == bits


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # dynamo and inductor cause them (torch 2.13)
@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.parametrize("choice", EVERY)
def test_one_graph_says_the_same(choice: str, backend: str):
    torch._dynamo.reset()
    format, x = made(choice, ste="clipped"), steep().float().requires_grad_()
    said, plain = torch.compile(format, backend=backend, fullgraph=True)(x), format(x)
    torch.testing.assert_close(said, plain, rtol=1e-6 if choice == "binary_scaling" else 0, atol=0)
    assert torch.equal(*(torch.autograd.grad(y.sum(), x)[0] for y in (said, plain)))


def test_a_stochastic_bit_is_a_fair_one_in_training_alone():
    format, x = made("binary", stochastic=True), torch.tensor([-2.0, -1, -0.5, 0, 0.5, 1]).repeat(4000, 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mean = format(x).mean(0)
        torch.testing.assert_close(mean, x[0].clamp(-1, 1), rtol=0, atol=0.06)
    assert format.eval()(x)[0].tolist() == [-1, -1, -1, 1, 1, 1]


# -- what is refused


@pytest.mark.parametrize(
    ("choice", "asked", "line"),
    [
        ("integer", {"width": 1}, "format.width=1 is not in 2 .. 32; try 2"),
        ("integer", {"width": 33}, "format.width=33 is not in 2 .. 32; try 32"),
        ("integer", {"fraction_width": 200}, "format.fraction_width=200 is not in -119 .. 126; try 126"),
        ("minifloat_ieee", {"width": 16, "exponent_width": 8}, "format.exponent_width=8 is not in 1 .. 7; try 7"),
        ("minifloat_ieee", {"width": 4}, "format.exponent_width=4 is not in 1 .. 3; try 3"),
        (
            "minifloat_ieee",
            {"bias": -113},
            "format.bias=-113 asks for 2^114 .. 2^128 with 3 digits below; float32 has ",
        ),
        ("minifloat_denorm", {"width": 4}, "format.exponent_width=4 is not in 1 .. 2; try 2"),
        ("minifloat_denorm", {"bias": 126}, "format.bias=126 asks for 2^-127 .. 2^-112 with 2 digits below; "),
        ("log", {"bias": -1}, "format.bias=-1 asks for 2^1 .. 2^128; float32 has 2^-126 .. 2^127 "),
        ("log", {"width": 9}, "format.width=9 is not in 2 .. 8; try 8"),
        ("block_fp", {"block": 0}, "format.block=0 is not in 1 .. 65536; try 1"),
        ("block_fp", {"exponent_width": 9}, "format.exponent_width=9 is not in 2 .. 8; try 8"),
        (
            "block_minifloat",
            {"width": 32, "exponent_width": 7},
            "format.exponent_width=7 asks for 2^-126 .. 2^0 with 24 ",
        ),
        ("block_log", {"bias_width": 1}, "format.bias_width=1 is not in 2 .. 8; try 2"),
        ("binary_residual", {"levels": 0}, "format.levels=0 is not in 1 .. 8; try 1"),
        ("mxint8", {"block": -1}, "format.block=-1 is not in 1 .. 65536; try 1"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(choice: str, asked: dict[str, Any], line: str):
    with pytest.raises(Refused) as refused:
        made(choice, **asked)
    assert str(refused.value).startswith(line)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("choice", "knob", "value"), [("mxint8", "element", "e8m0"), ("integer", "ste", "none"), ("log", "width", 8.5)]
)
def test_what_is_of_no_kind_is_refused_before_it_is_made(choice: str, knob: str, value: Any):
    (line,) = check_node({**node(choice), knob: value}, "format")
    assert line.startswith(f"format.{knob}=")


def test_one_scale_for_all_tokens_is_refused():
    with pytest.raises(ValueError, match="scale=per_tensor on an activation lets later tokens change earlier ones"):
        made("binary_scaling", scale="per_tensor")(normal(BATCH, TIME, 60))


# -- a range that is fitted


def test_a_tensor_of_a_weight_has_one_step_and_rows_have_their_own():
    w = normal(4, 60) * torch.tensor([[1.0], [8.0], [0.01], [0.0]]).double()
    steps = [2.0 ** (made("integer", width=6, fraction_width="tensor").fit_fraction(w)[0] * -1.0)] * 4
    rows = made("int8", width=6).fit_fraction(w)[0]
    for row, said, f in zip(w, made("int8", width=6)(w), rows, strict=True):
        step = 2.0 ** -float(f)
        assert (said - row).abs().max() <= step * (1 if row.abs().max() > 31.5 * step else 0.5)
        assert row.abs().max() <= 32 * step
        assert not row.any() or row.abs().max() > 16 * step
    said = made("integer", width=6, fraction_width="tensor")(w)
    assert torch.equal(said, (w / steps[0]).round().clamp(-32, 31) * steps[0])


def test_an_activation_has_the_range_that_was_watched():
    format, x = made("integer", fraction_width="tensor"), normal(2, TIME, 60)
    assert torch.equal(format(x), made("int8")(x))  # it has watched none, so each token has its own
    format.watch(0.9 * x / x.abs().max())
    format.watch(x / x.abs().max() * 3)
    format.watch(0.1 * x)
    fixed = made("integer", fraction_width=5)
    assert torch.equal(format(x), fixed(x))
    assert torch.equal(format(100 * x), fixed(100 * x))  # whatever comes later
    fresh = made("integer", fraction_width="tensor")
    fresh.load_state_dict(format.state_dict())
    assert torch.equal(fresh(x), fixed(x))


# -- as it is stored


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("features", [32, 64, 60, 5])
@pytest.mark.parametrize(
    ("choice", "asked"),
    [("mxint8", {}), ("int8", {}), ("int8", {"width": 5}), ("integer", {}), ("integer", {"fraction_width": "tensor"})],
)
def test_what_is_stored_is_what_is_said(choice: str, asked: dict[str, Any], features: int, dtype: torch.dtype):
    format, w = made(choice, **asked), wide(7, features).to(dtype)
    parts = format.pack(w)
    assert all(part.dtype in (torch.int8, torch.uint8) for part in parts.values())
    assert torch.equal(format.unpack(parts, dtype), format(w))
    shared = {"mxint8": -(-features // 32), "int8": 1, "integer": 1 / 7}[choice]
    assert sum(part.nbytes for part in parts.values()) == pytest.approx(7 * (features + shared))


def test_what_holds_no_number_comes_back_as_none():
    w = normal(3, 64).float()
    w[1, 40] = torch.inf
    format = made("mxint8")
    torch.testing.assert_close(format.unpack(format.pack(w), torch.float32), format(w), equal_nan=True, rtol=0, atol=0)
    with pytest.raises(ValueError, match="fixed point has no code; take mxint8"):
        made("int8").pack(w)


@pytest.mark.parametrize(
    ("choice", "asked", "line"),
    [
        ("mxfp4", {}, "format.element=e2m1 has no packed storage here; int8 has"),
        ("integer", {"width": 9}, "format.width=9 fits no signed byte; try width=8, signed=true"),
        ("integer", {"signed": False}, "format.width=8 fits no signed byte; try width=8, signed=true"),
        ("log", {}, "format=Log has no packed storage here; mxint8 and int8 have"),
    ],
)
def test_what_cannot_be_stored_is_refused(choice: str, asked: dict[str, Any], line: str):
    with pytest.raises(ValueError, match=line):
        made(choice, **asked).pack(normal(2, 64))
