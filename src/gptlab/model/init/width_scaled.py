"""GPT-2's start scaled to the width: N(0, std sqrt(base / width)) for embeddings and Linears, N(0, std) for a head.

GPT-2's 0.02 was chosen at width 768, where it is 0.55 / sqrt(width). At width 64 the same number leaves each branch a
tenth as loud beside the embeddings as it is at 768, and variants differ by how they bear that. Scaled by
1 / sqrt(width), as LeCun 1998, nanochat and muP scale matrices, a branch starts equally loud at any width. At width 768
this is init=gpt2. Embeddings are scaled alike, so that a token stays as loud beside the branches that are added to it;
left at 0.02 they drown in these (model=nano ends 0.09 worse, docs/log.md). An untied head keeps std: its logits begin
near 0 at any width. init=zero_out starts what writes into the stream at 0, so that a decoder begins as its embedding
and head (modded-nanogpt, nanochat).
"""

import math

import torch
from torch import nn

from gptlab.model.init import Init, StdPowers
from gptlab.model.shape import Shape


class WidthScaled(Init):
    """GPT-2's initialization with weights scaled to the width; biases are 0.

    std       of a head, and of embeddings and Linears in a decoder as wide as `base`
    base      width for which std was chosen
    residual  whether to scale what writes into the stream, everything called `out`, by 1 / sqrt(2 layers) too
    zero_out  whether it starts at 0 instead
    """

    def __init__(self, *, std: float = 0.02, base: int = 768, residual: bool = True, zero_out: bool = False) -> None:
        if std <= 0:
            raise ValueError(f"std={std} is not positive; try 0.02")
        if base < 1:
            raise ValueError(f"base={base} is not a width; try 768")
        self.std, self.base, self.residual, self.zero_out = std, base, residual, zero_out

    def __call__(self, module: nn.Module, name: str, shape: Shape, generator: torch.Generator) -> None:
        # `module` is the one that owns the parameter, `name` its path in the whole decoder
        tensor = module.get_parameter(name.rpartition(".")[2])
        if name.endswith(".bias") or (self.zero_out and name.endswith(".out.weight")):
            tensor.zero_()
            return
        std = self.std
        if not name.startswith("readout."):
            std *= math.sqrt(self.base / shape.width)
        if self.residual and name.endswith(".out.weight"):
            std /= math.sqrt(2 * shape.layers)
        tensor.normal_(0.0, std, generator=generator)

    def std_powers(self, module: nn.Module, name: str) -> StdPowers:
        if name.startswith("readout."):
            return StdPowers()
        return StdPowers(width=-0.5, layers=-0.5 if self.residual and name.endswith(".out.weight") else 0)
