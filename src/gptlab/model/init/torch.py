"""PyTorch's own start: Linears uniform within 1 / sqrt(inputs), weights and biases alike; Embeddings N(0, 1).

Departure: with a tied head the embeddings are N(0, 0.02). They are the head's weights too, and N(0, 1) would start with
logits of std sqrt(width): a loss of 65 nats at width 64, where knowing nothing costs 4.2.
"""

import torch
from torch import nn

from gptlab.model.init import Init, StdPowers
from gptlab.model.shape import Shape


class Torch(Init):
    """Initial values of nn.Linear and nn.Embedding in PyTorch, keyed by name.

    embedding_std  of every embedding; null is 1, and 0.02 where the head is tied
    """

    def __init__(self, *, embedding_std: float | None = None) -> None:
        if embedding_std is not None and embedding_std <= 0:
            raise ValueError(f"embedding_std={embedding_std} is not positive; try 0.02, or null")
        self.embedding_std, self.tied = embedding_std, False

    def prepare(self, decoder: nn.Module) -> None:
        embeddings = {module.weight for module in decoder.modules() if isinstance(module, nn.Embedding)}
        self.tied = any(module.weight in embeddings for module in decoder.modules() if isinstance(module, nn.Linear))

    def __call__(self, module: nn.Module, name: str, shape: Shape, generator: torch.Generator) -> None:
        tensor = module.get_parameter(name.rpartition(".")[2])
        if isinstance(module, nn.Linear):
            bound = module.in_features**-0.5
            tensor.uniform_(-bound, bound, generator=generator)
        else:
            std = self.embedding_std or (0.02 if self.tied else 1.0)
            tensor.normal_(0.0, std, generator=generator)

    def std_powers(self, module: nn.Module, name: str) -> StdPowers:
        # weights and biases of a Linear alike
        return StdPowers(inputs=-0.5) if isinstance(module, nn.Linear) else StdPowers()
