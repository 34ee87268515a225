"""A CUDA graph's stand-in on a CPU: the operators of a call are recorded with their tensors, and repeated.

As of a graph, what was a number of Python's stays what it was, and what asks the device for a value is refused.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WAITING = ("aten._local_scalar_dense", "aten.nonzero", "aten.masked_select", "aten.equal")


class OpRecorder(TorchDispatchMode):
    """Notes every operator with its arguments and results."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        is_boolean_index = str(func).startswith("aten.index.Tensor") and any(
            isinstance(index, Tensor) and index.dtype == torch.bool for index in args[1]
        )
        if str(func).startswith(WAITING) or is_boolean_index:
            raise RuntimeError(f"{func} waits for the device")
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out

    @torch.no_grad()
    def replay(self) -> None:
        """Repeat all operators on the same memory."""
        for func, args, kwargs, out in self.calls:
            for before, now in zip(tree_leaves(out), tree_leaves(func(*args, **kwargs)), strict=True):
                # a view, or the argument of an operator in place, is there already
                if isinstance(now, Tensor) and now.data_ptr() != before.data_ptr():
                    before.copy_(now)


def capture_by_recording(body: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
    """Record a body; unlike CUDA it runs meanwhile, so that the first replay has nothing left to do."""
    with OpRecorder() as recorder:
        outputs = body()
    replays = iter([lambda: None])
    return lambda: next(replays, recorder.replay)(), outputs
