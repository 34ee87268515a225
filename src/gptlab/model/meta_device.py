"""Decoders without memory: built on torch's meta device, for their refusals and their counts."""

from collections.abc import Iterator
from contextlib import contextmanager

DRAWS = ("normal_", "uniform_", "zero_", "fill_")
"""Methods of a tensor that give first values."""


@contextmanager
def build_without_memory() -> Iterator[None]:
    """Build what is built inside on the meta device."""
    # late: a recipe is refused before torch is imported
    import torch
    from torch.overrides import TorchFunctionMode

    class NoInit(TorchFunctionMode):  # on meta nothing is drawn, and drawing would import torch._dynamo (1.7 s)
        def __torch_function__(self, func, types, args=(), kwargs=None):
            drawn = getattr(func, "__module__", "") == "torch.nn.init" or getattr(func, "__name__", "") in DRAWS
            kwargs = kwargs or {}
            return next(iter((*args, *kwargs.values()))) if drawn else func(*args, **kwargs)

    with NoInit(), torch.device("meta"):
        yield
