"""The Lightning task whose forward pass, backward pass, clipping and optimizer step are one CUDA graph.

Rows, learning rates and the number of the step lie in tensors that stay, and are filled before each step. Torch's
random state is set before each too, which a graph follows. The first steps run without a graph, as warm-up; they train
as all others do.
Lightning counts steps and calls its hooks around this, but for those between backward pass and optimizer step.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from gptlab.corpus.batch import Batch
from gptlab.generation.cuda_graph import Capture, StaticGraph, capture_on_gpu
from gptlab.training.task import Task


class GraphedTask(Task):
    """A Task for one process, one micro-batch a step and an optimizer that is `capturable`."""

    capture: Capture = staticmethod(capture_on_gpu)
    graph: StaticGraph[dict[str, Tensor]] | None = None

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Take a whole step on a batch, and return its loss in nats per target."""
        if self.graph is None:
            self._allocate(batch)
        self.seed_draws(0)
        self.inputs.copy_(batch.inputs)
        self.targets.copy_(batch.targets)
        for group, rate, count in zip(self.groups, self.rates, self.counts, strict=True):
            # values travel with the kernel that fills them: no copy to the GPU, which would wait for it
            rate.fill_(group["lr"])
            count.fill_(group["step"])
        assert self.graph is not None
        values = self.graph()
        for group in self.groups:
            # what the optimizer adds to the tensor
            group["step"] += bool(group["params"])
        for name, value in values.items():
            self._add(f"train/{name}", value)
        return values["loss"]

    def _allocate(self, batch: Batch) -> None:
        self.groups = self.optimizers(use_pl_optimizer=False).param_groups  # type: ignore[union-attr]
        self.inputs, self.targets = torch.empty_like(batch.inputs), torch.empty_like(batch.targets)
        # float32, as the fused kernels on GPUs read them
        self.rates = [torch.zeros((), device=self.device) for _ in self.groups]
        self.counts = [torch.zeros((), device=self.device) for _ in self.groups]
        self.graph = StaticGraph(self._compute_step, self.capture)

    def _compute_step(self) -> dict[str, Tensor]:
        """Train on what lies in the buffers; return what the log has of it."""
        for weight in self.weights:
            # allocated anew by the backward pass, in the graph's own memory
            weight.grad = None
        output = self.decoder(self.inputs, self.targets)
        # Lightning opens the precision of the forward pass alone, and this is within it
        with torch.autocast(self.device.type, enabled=False):
            (output.loss + sum(output.losses.values())).backward()
            norm = torch.nn.utils.clip_grad_norm_(self.weights, self.clip or math.inf, foreach=True)
            with self._tensors_in_groups():
                self.optimizers(use_pl_optimizer=False).step()  # type: ignore[union-attr]
        values = {"loss": output.loss, **output.losses, **output.facts, "gradient_norm": norm}
        return {name: value.detach() for name, value in values.items()}

    @contextmanager
    def _tensors_in_groups(self) -> Iterator[None]:
        """Hold tensors in the optimizer's groups, whose numbers a graph would repeat for ever."""
        numbers = [(group["lr"], group["step"]) for group in self.groups]
        for group, rate, count in zip(self.groups, self.rates, self.counts, strict=True):
            group.update(lr=rate, step=count)
        yield
        # a checkpoint has numbers, with a graph or without
        for group, (rate, count) in zip(self.groups, numbers, strict=True):
            group.update(lr=rate, step=count)

    def apply_optimizer(self, epoch: int, batch_idx: int, optimizer: Any, closure: Any) -> None:
        """Call the closure, which trains: see training_step."""
        closure()

    def backward(self, loss: Tensor, *_: Any, **__: Any) -> None:
        """Do nothing: the graph has done it."""

    def optimizer_zero_grad(self, *_: Any, **__: Any) -> None:
        """Do nothing: the graph has done it."""
