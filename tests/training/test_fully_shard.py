"""Every part and every optimizer trains with its weights in shares, as trainer=fsdp makes them: one process, on CPU."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from conftest import VOCAB, choices, recipe, tokens
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard

from gptlab import compose as wiring
from gptlab.config.factory import factory
from gptlab.training.callback.ema import Ema
from gptlab.training.check import refuse_shares

QUICK = ("attention=mha", "attention=shared", "mlp=moe", "residual=hyper", "residual=rezero")
CASES: list[Any] = [
    pytest.param(case, marks=() if case in QUICK else (pytest.mark.slow,))
    for case in (f"{slot}={choice}" for slot in ("attention", "mlp", "residual") for choice in choices(slot))
]


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeviceMesh]:
    """One process that counts as a group."""
    store = tmp_path_factory.mktemp("group") / "store"
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def losses(case: str, steps: int, mesh: DeviceMesh | None) -> list[float]:
    """The losses of a few steps on one batch, with gradients clipped; in shares if a mesh is given."""
    made = recipe(case)
    decoder = wiring.build_decoder(made, VOCAB).train()
    if mesh is not None:
        for part in (*decoder.layers, decoder):
            fully_shard(part, mesh=mesh)
    optimizer = factory(made.config["optimizer"], "optimizer")(decoder.trainable_parameters())
    inputs, targets = tokens(3, 16), tokens(3, 16, key="targets")
    found = []
    for _ in range(steps):
        output = decoder(inputs, targets)
        (output.loss + sum(output.losses.values())).backward()
        torch.nn.utils.clip_grad_norm_(list(decoder.parameters()), 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        found.append(float(output.loss.detach()))
    return found


@pytest.mark.parametrize("case", CASES)
def test_every_part_learns_in_shares_as_it_does_whole(case: str, mesh: DeviceMesh):
    in_shares, whole = losses(case, 2, mesh), losses(case, 2, None)
    assert in_shares == pytest.approx(whole, rel=1e-4)
    assert all(map(math.isfinite, in_shares))


@pytest.mark.parametrize("optimizer", choices("optimizer"))
def test_every_optimizer_steps_in_shares_or_asks_for_whole_matrices(optimizer: str, mesh: DeviceMesh):
    case = f"optimizer={optimizer}"
    if getattr(factory(recipe(case).config["optimizer"], "optimizer").target, "needs_whole_matrices", False):
        return  # refused before any compute
    in_shares, whole = losses(case, 3, mesh), losses(case, 3, None)
    assert in_shares == pytest.approx(whole, rel=1e-4)
    assert whole[2] < whole[0]


@pytest.mark.parametrize("name", ["ema"])
def test_what_keeps_whole_weights_is_refused_under_fsdp_in_one_line(name: str):
    refuse_shares(f"callback=[{name}]", Ema, "ddp")
    with pytest.raises(ValueError, match=rf"^callback=\[{name}\] needs whole matrices.*use trainer=ddp$"):
        refuse_shares(f"callback=[{name}]", Ema, "fsdp")


def test_the_averages_of_schedule_free_are_taken_in_shares(mesh: DeviceMesh):
    made = recipe("optimizer=schedule_free")
    averages = []
    for shared in (True, False):
        decoder = wiring.build_decoder(made, VOCAB).train()
        for part in (*decoder.layers, decoder) if shared else ():
            fully_shard(part, mesh=mesh)
        optimizer: Any = factory(made.config["optimizer"], "optimizer")(decoder.trainable_parameters())
        for _ in range(2):
            decoder(tokens(3, 16), tokens(3, 16, key="targets")).loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        averages.append([getattr(x, "full_tensor", lambda x=x: x)() for _, x in optimizer.average_weights()])
    for in_shares, whole in zip(*averages, strict=True):
        torch.testing.assert_close(in_shares, whole, rtol=1e-4, atol=1e-6)
