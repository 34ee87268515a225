"""Law 12 in part: no number is copied from the CPU to a GPU in an optimizer's step or for a decoded token.

A copy makes the CPU wait for all that the GPU has to do. The GPU is a fake one: tensors without memory, whose device is
cuda. A control shows that a copy is seen. A whole pass cannot run on it where torch is built for CPUs, as indexing and
autograd want the device itself: that no part copies numbers is seen in test_cuda_graph.py, which records its operators.
"""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import choices, composed
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from gptlab.config.factory import factory
from gptlab.generation.generate import DecodingState


class CopyLog(TorchDispatchMode):
    """Notes the operators that bring a tensor from the CPU to another device."""

    def __init__(self) -> None:
        super().__init__()
        self.copies: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        from_cpu = any(isinstance(arg, torch.Tensor) and arg.device.type == "cpu" for arg in args)
        if from_cpu and isinstance(out, torch.Tensor) and out.device.type == "cuda":
            self.copies.append(str(func))
        return out


def test_a_copy_is_seen():
    with FakeTensorMode(), CopyLog() as log:
        torch.tensor(3.0, device="cuda")
    assert log.copies == ["aten._to_copy.default"]


@pytest.mark.parametrize("optimizer", [name for name in choices("optimizer") if name != "sgd"])  # torch's own class
def test_an_optimizers_step_copies_nothing(optimizer: str):
    node = composed("model=nano", f"optimizer={optimizer}").config["optimizer"]
    with FakeTensorMode(), torch.no_grad():
        named = [
            ("matrix", torch.nn.Parameter(torch.empty(6, 5, device="cuda"))),
            ("vector", torch.nn.Parameter(torch.empty(5, device="cuda"))),
        ]
        made = factory(node, "optimizer")(named)
        for _ in range(2):  # the second finds its moments there
            for _, weight in named:
                weight.grad = torch.empty_like(weight)
            with CopyLog() as log:
                made.step()
            assert log.copies == []


def test_the_positions_of_a_decoded_token_are_counted_on_the_device():
    with FakeTensorMode():
        state: Any = SimpleNamespace(lengths=[9, 9], texts=torch.empty(2, 9, dtype=torch.long, device="cuda"))
        with CopyLog() as log:
            positions = DecodingState.compute_positions(state, 1)
        assert positions is not None
        assert (tuple(positions.shape), positions.device.type, log.copies) == ((1, 1), "cuda", [])
    real: Any = SimpleNamespace(lengths=[9, 9], texts=torch.empty(2, 9, dtype=torch.long))
    assert DecodingState.compute_positions(real, 3).tolist() == [[6, 7, 8]]  # type: ignore[union-attr]
