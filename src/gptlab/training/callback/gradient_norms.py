"""Norms of the gradient, layer by layer: which part of the depth learns, and which has stopped or is about to burst.

For each layer, and for what stands outside the layers, a row holds the L2 norm of its gradient before clipping and a
histogram of log10 of the L2 norms of its matrices' rows (one row feeds one output feature).
"""

import math
from collections import defaultdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gptlab.errors import Refused
from gptlab.training.callback import Callback, Histogram, Row


class GradientNorms(Callback):
    """Record `gradient_norm/<layer>` and `gradient_histogram/<layer>` now and then.

    every  optimizer steps from one row to the next
    bins   bars of a histogram
    """

    def __init__(self, *, every: int = 100, bins: int = 32) -> None:
        for knob, value in (("every", every), ("bins", bins)):
            if value < 1:
                raise Refused(f"{knob}={value} is less than 1; give 1 or more")
        self.every, self.bins = every, bins

    def on_before_optimizer_step(self, trainer: Any, task: Any, optimizer: Any) -> None:
        step = trainer.global_step + 1  # Lightning counts it when it is done
        if step % self.every == 0:
            self.record(step, measure_gradients(task.decoder, self.bins))


def measure_gradients(decoder: torch.nn.Module, bins: int) -> Row:
    """Return the gradient's norm and the histogram of its rows' log10 norms for each layer of a decoder."""
    row_norms: dict[str, list[Tensor]] = defaultdict(list)
    for name, parameter in decoder.named_parameters():
        gradient: Any = parameter.grad
        if gradient is None:  # frozen, or not met by this batch
            continue
        # Under trainer=fsdp a process holds a share of the rows; every process asks for the whole at the same time.
        gradient = gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient
        rows = gradient.detach().float()
        rows = rows.flatten(1) if rows.ndim > 1 else rows[None]
        row_norms[name_layer(name)].append(torch.linalg.vector_norm(rows, dim=1))
    values: Row = {}
    for layer, norms in row_norms.items():
        lengths = torch.cat(norms).double().cpu().numpy()
        values[f"gradient_norm/{layer}"] = math.sqrt(float(np.square(lengths).sum()))
        positive = lengths[np.isfinite(lengths) & (lengths > 0)]  # a token that is not in the batch has a row of zeros
        if len(positive):
            counts, edges = np.histogram(np.log10(positive), bins)
            values[f"gradient_histogram/{layer}"] = Histogram(counts.tolist(), edges.tolist())
    return values


def name_layer(parameter: str) -> str:
    """`blocks.3.attention.out.weight` to `blocks.3`, `embedding.weight` to `embedding`."""
    first, *rest = parameter.split(".")
    return f"{first}.{rest[0]}" if first == "blocks" else first
