"""PyTorch's own start: Linears uniform within 1 / sqrt(inputs), weights and biases alike; Embeddings N(0, 1)."""

import torch
from torch import nn

from gptlab.model.init import Init
from gptlab.model.shape import Shape


class Torch(Init):
    """What nn.Linear and nn.Embedding do when nobody asks, keyed by name."""

    def __call__(self, module: nn.Module, name: str, shape: Shape, generator: torch.Generator) -> None:
        tensor = module.get_parameter(name.rpartition(".")[2])
        if isinstance(module, nn.Linear):
            bound = module.in_features**-0.5
            tensor.uniform_(-bound, bound, generator=generator)
        else:
            tensor.normal_(generator=generator)
