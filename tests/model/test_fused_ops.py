"""What is written for speed says what the plain formula says."""

from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from conftest import BATCH, TIME, VOCAB, normal, recipe, tokens

from gptlab import compose as wiring
from gptlab.model.fused_ops import RmsNorm, RotateHalves, rms_norm
from gptlab.model.position.rope import Rope


def test_rms_norm_is_torchs_and_so_is_its_gradient():
    x, weight = normal(2, 17, 60, key="x").requires_grad_(), normal(60, key="weight").requires_grad_()
    said, torchs = rms_norm(x, weight, 1e-6), F.rms_norm(x, weight.shape, weight, 1e-6)
    torch.testing.assert_close(said, torchs)
    dy = normal(2, 17, 60, key="dy")
    torch.testing.assert_close(*(torch.autograd.grad(y, (x, weight), dy) for y in (said, torchs)))


@pytest.mark.parametrize("eps", [1e-6, 0.3])
def test_gradients_are_finite_differences(eps: float):
    x, weight = normal(2, 3, 7, key="x").requires_grad_(), normal(7, key="weight").requires_grad_()
    assert torch.autograd.gradcheck(lambda *inputs: RmsNorm.apply(*inputs, eps), (x, weight))


@pytest.mark.parametrize("kv_heads", [2, 1, 0])
def test_a_rotation_and_its_gradient_are_the_formula_and_finite_differences(kv_heads: int):
    q, k, angle = normal(2, 3, 2, 6, key="q"), normal(2, 3, kv_heads, 6, key="k"), normal(1, 3, 2, 3, key="angle")
    cos, sin = torch.cat([angle.cos()] * 2, -1), torch.cat([-angle.sin(), angle.sin()], -1)
    for x, rotated in zip((q, k), RotateHalves.apply(q, k, cos, sin), strict=True):
        heads = x.shape[2]
        torch.testing.assert_close(rotated, x * cos[:, :, :heads] + x.roll(3, -1) * sin[:, :, :heads])
    inputs = [x.requires_grad_() for x in (q, k) if x.numel()]
    assert torch.autograd.gradcheck(lambda *x: RotateHalves.apply(*x, *(q, k)[len(x) :], cos, sin), inputs)


def test_gradients_of_views_are_those_of_the_tensors_they_show():
    x = normal(2, 2, 3, 6, key="x").transpose(1, 2).requires_grad_()
    angle = normal(1, 3, 1, 3, key="angle")
    cos, sin = torch.cat([angle.cos()] * 2, -1), torch.cat([-angle.sin(), angle.sin()], -1)
    dq, dk = normal(2, 2, 3, 6, key="dq").transpose(1, 2), normal(2, 2, 3, 6, key="dk").transpose(1, 2)
    of_views, of_copies = (
        torch.autograd.grad(RotateHalves.apply(y, y, cos, sin), x, grads)
        for y, grads in ((x, (dq, dk)), (x.contiguous(), (dq.contiguous(), dk.contiguous())))
    )
    assert torch.equal(*of_views, *of_copies)


def test_half_precision_beside_float32_weights_is_promoted_and_learns():
    x, weight = normal(2, 3, 8, key="x").bfloat16().requires_grad_(), normal(8, key="weight").float().requires_grad_()
    y = RmsNorm.apply(x, weight, 1e-6)
    dx, dweight = torch.autograd.grad(y.sum(), (x, weight))
    assert (y.dtype, dx.dtype, dweight.dtype) == (torch.float32, torch.bfloat16, torch.float32)
    exact_x, exact_weight = x.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
    exact = torch.autograd.grad(F.rms_norm(exact_x, (8,), exact_weight, 1e-6).sum(), (exact_x, exact_weight))
    torch.testing.assert_close((dx.double(), dweight.double()), exact, rtol=0.02, atol=0.02)


def test_a_row_of_zeros_stays_zero_and_learns():
    x, weight = torch.zeros(1, 2, 5, requires_grad=True), torch.ones(5)
    rms_norm(x, weight, 1e-6).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.full_like(x, 1e3))


def test_a_pass_in_training_makes_one_wheel_for_each_theta():
    made = wiring.build_decoder(recipe("position=rope_local_global"), VOCAB)
    position, now = made.position, tokens(BATCH, TIME)
    assert isinstance(position, Rope)
    with mock.patch.object(position, "compute_cos_sin", wraps=position.compute_cos_sin) as wheel:
        first = made(now, now).loss
        assert wheel.call_count == len(set(position.thetas))
        positions = torch.arange(TIME)[None]
        assert torch.equal(made(now, now, positions=positions).loss, first)
        positions += 3  # the same tensor, other places
        moved = made(now, now, positions=positions).loss
    assert torch.equal(moved, made(now, now, positions=torch.arange(3, TIME + 3)[None]).loss)
