"""A start scaled to the inputs of each matrix: N(0, gain / sqrt(inputs)), cut off at 3 std (LeCun 1998; nanochat).

Every product keeps the RMS of what it is given, also in MLPs, whose `out` has more inputs than the width. Embeddings
are N(0, 1 / sqrt(width)), biases 0; an untied head is N(0, 0.02), so that its logits begin near 0. What writes into
the stream starts smaller by sqrt(2 layers), as in GPT-2.
"""

import math

import torch
from torch import nn

from gptlab.model.init import Init, StdPowers
from gptlab.model.shape import Shape


class FanIn(Init):
    """Truncated normal start by fan-in.

    gain      of Linears
    residual  whether to scale what writes into the stream, everything called `out`, by 1 / sqrt(2 layers)
    """

    def __init__(self, *, gain: float = 1.0, residual: bool = True) -> None:
        if gain <= 0:
            raise ValueError(f"gain={gain} is not positive; 1 keeps the RMS")
        self.gain, self.residual = gain, residual

    def __call__(self, module: nn.Module, name: str, shape: Shape, generator: torch.Generator) -> None:
        tensor = module.get_parameter(name.rpartition(".")[2])
        if name.endswith(".bias"):
            tensor.zero_()
            return
        # a Linear's weight is (outputs, inputs)
        std = self.gain / math.sqrt(tensor.shape[-1])
        # a tied head is this very tensor, and has no name of its own here
        if isinstance(module, nn.Embedding):
            std = shape.width**-0.5
        elif name.startswith("readout."):
            std = 0.02
        elif self.residual and name.endswith(".out.weight"):
            std /= math.sqrt(2 * shape.layers)
        nn.init.trunc_normal_(tensor, mean=0.0, std=std, a=-3 * std, b=3 * std, generator=generator)

    def std_powers(self, module: nn.Module, name: str) -> StdPowers:
        if isinstance(module, nn.Embedding):
            return StdPowers(width=-0.5)
        if name.startswith("readout."):
            return StdPowers()
        return StdPowers(inputs=-0.5, layers=-0.5 if self.residual and name.endswith(".out.weight") else 0)
