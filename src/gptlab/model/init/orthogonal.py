"""Orthogonal Linears (Saxe 2013, arXiv:1312.6120): all singular values are `gain`.

Embeddings, and an untied head, are those of init=width_scaled: N(0, 0.02 sqrt(768 / width)), N(0, 0.02). Biases are 0;
what writes into the stream starts smaller by sqrt(2 layers), as in GPT-2.
"""

import math

import torch
from torch import nn

from gptlab.model.init import Init, StdPowers
from gptlab.model.shape import Shape


class Orthogonal(Init):
    """Orthogonal start.

    gain      singular values of Linears
    residual  whether to scale what writes into the stream, everything called `out`, by 1 / sqrt(2 layers)
    """

    def __init__(self, *, gain: float = 1.0, residual: bool = True) -> None:
        if gain <= 0:
            raise ValueError(f"gain={gain} is not positive; 1 keeps lengths")
        self.gain, self.residual = gain, residual

    def __call__(self, module: nn.Module, name: str, shape: Shape, generator: torch.Generator) -> None:
        tensor = module.get_parameter(name.rpartition(".")[2])
        if name.endswith(".bias"):
            tensor.zero_()
        elif isinstance(module, nn.Embedding):
            # tables are looked up, not multiplied: as init=width_scaled draws them
            tensor.normal_(0.0, 0.02 * math.sqrt(768 / shape.width), generator=generator)
        elif name.startswith("readout."):
            tensor.normal_(0.0, 0.02, generator=generator)
        else:
            writes_to_stream = self.residual and name.endswith(".out.weight")
            gain = self.gain / math.sqrt(2 * shape.layers) if writes_to_stream else self.gain
            # of a matrix that is not square the shorter side is orthonormal
            nn.init.orthogonal_(tensor, gain, generator)

    def std_powers(self, module: nn.Module, name: str) -> StdPowers:
        if isinstance(module, nn.Embedding):
            return StdPowers(width=-0.5)
        if name.startswith("readout."):
            return StdPowers()
        return StdPowers(larger=-0.5, layers=-0.5 if self.residual and name.endswith(".out.weight") else 0)
