"""GPT-2's initialization (Radford 2019) as Hugging Face and nanoGPT read it.

Weights N(0, std), biases 0, and everything called `out`, which writes into the residual stream, at
std / sqrt(2 layers). (OpenAI's released code does not scale; `residual=false`.)
"""

import math

import torch
from torch import nn

from gptlab.model.init import Init, StdPowers
from gptlab.model.shape import Shape


class GPT2(Init):
    """GPT-2's initialization.

    std       of every weight
    residual  whether to scale what writes into the stream by the depth
    """

    def __init__(self, *, std: float = 0.02, residual: bool = True) -> None:
        if std <= 0:
            raise ValueError(f"std={std} is not positive; try 0.02")
        self.std, self.residual = std, residual

    def __call__(self, module: nn.Module, name: str, shape: Shape, generator: torch.Generator) -> None:
        tensor = module.get_parameter(name.rpartition(".")[2])
        if name.endswith(".bias"):
            tensor.zero_()
        else:
            # two branches a layer add up in the stream, and their variances with them: hence the root
            writes_to_stream = self.residual and name.endswith(".out.weight")
            std = self.std / math.sqrt(2 * shape.layers) if writes_to_stream else self.std
            tensor.normal_(0.0, std, generator=generator)

    def std_powers(self, module: nn.Module, name: str) -> StdPowers:
        return StdPowers(layers=-0.5 if self.residual and name.endswith(".out.weight") else 0)
