"""Linears whose numbers a format limits: which they are, what they cost in loss, and that a run keeps them."""

from pathlib import Path

import pytest
import torch
from conftest import ROOT
from running import finished, tiny, train
from torch import nn

import gptlab
from gptlab import wiring
from gptlab.building import build
from gptlab.change import merge
from gptlab.refused import Refused

INTEGER = ["change=[quantize]", "format@change.quantize.weight=integer"]


def made(*more: str):
    return build(wiring.compose(["model=nano", *more]), 31)


def linears(decoder: nn.Module) -> dict[str, nn.Linear]:
    return {name: part for name, part in decoder.named_modules() if isinstance(part, nn.Linear)}


@pytest.mark.parametrize("form", sorted(file.stem for file in (ROOT / "conf" / "format").glob("*.yaml")))
def test_weights_are_what_the_format_says_of_them(form: str):
    plain, quantized = made(), made("change=[quantize]", f"format@change.quantize.weight={form}")
    weights, original = linears(quantized), linears(plain)
    assert weights.keys() == original.keys()
    one = "blocks.1.mlp.up"
    assert not weights[one].weight.equal(original[one].weight)
    assert weights["readout.head"].weight.equal(original["readout.head"].weight)
    given = weights[one].get_parameter("parametrizations.weight.original")
    assert given.equal(original[one].weight)
    weights[one].weight.sum().backward()
    assert given.grad is not None
    assert given.grad.isfinite().all()


def test_calibration_puts_the_point_where_the_largest_weight_fits():
    plain, blunt, fitted = made(), made(*INTEGER), made(*INTEGER, "change.quantize.calibrate=true")
    for name, linear in linears(plain).items():
        if name.startswith("blocks"):
            far = [(linears(one)[name].weight - linear.weight).abs().max().item() for one in (blunt, fitted)]
            step = 2.0 ** torch.ceil(torch.log2(linear.weight.abs().max())).item() / 2**7
            assert far[1] <= step
            assert far[1] < far[0]


def test_inputs_are_rounded_token_by_token():
    changed = made("change=[quantize]", "format@change.quantize.inputs=mxfp4")
    tokens = torch.randint(0, 31, (1, 9), generator=torch.Generator().manual_seed(0))
    later = tokens.clone()
    later[0, 6:] = (later[0, 6:] + 1) % 31
    with torch.no_grad():
        assert changed(tokens).logits[:, :6].equal(changed(later).logits[:, :6])
        assert not changed(tokens).logits.equal(made()(tokens).logits)


def test_rounded_inputs_are_no_plain_linear():
    changed = made("change=[quantize]", "format@change.quantize.inputs=binary_residual")
    assert linears(changed)["blocks.0.mlp.up"].get_submodule("inputs") is not None
    with pytest.raises(Refused, match="rounds what it is given"):
        merge(changed)


def test_a_run_keeps_what_was_calibrated(tmp_path: Path):
    folder = finished(*tiny(tmp_path, *INTEGER, "change.quantize.calibrate=true", "steps=3"))
    first, second = gptlab.load(folder)[0], gptlab.load(folder)[0]
    state = first.state_dict()
    shifts = [value for name, value in state.items() if name.endswith("shift")]
    assert shifts
    assert any(shifts)
    assert all(value.equal(second.state_dict()[name]) for name, value in state.items())


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["format@change.quantize.weight=int3"], "int3"),
        ([*INTEGER, "change.quantize.weight.width=64"], "width=64"),
        (["change.quantize.weight=null"], "leave everything as it is"),
        (["change.quantize.calibrate=true"], "wants a fixed point"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, more: list[str], told: str):
    done = train(*tiny(tmp_path, "change=[quantize]", *more))
    assert (done.status, done.err.count("\n"), told in done.err) == (2, 1, True), done.err
