"""Low-rank adapters: all weights freeze, and each target learns the product of two small matrices beside its own
(LoRA, Hu 2021, arXiv:2106.09685).

    y = W x + b + alpha / rank up(down(dropout(x)))

`down` starts as torch's Linears do, `up` at 0: at birth nothing has changed. Which learning rate suits it depends on
alpha / rank, not on the rank (Schulman 2025, thinkingmachines.ai/blog/lora).
"""

from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor, nn

from gptlab.model.rng import derive_seed
from gptlab.weights.change import Change, Part

if TYPE_CHECKING:
    from gptlab.model.decoder import Decoder


class Lora(Change):
    """rank: columns of the product, at most the smaller side of every target. What it adds is scaled by alpha / rank.
    dropout acts on what the adapters see."""

    def __init__(
        self, *, targets: str | list[str] = "blocks.*", rank: int = 8, alpha: float = 16.0, dropout: float = 0.0
    ) -> None:
        super().__init__(targets=targets)
        if rank < 1:
            raise ValueError(f"rank={rank} is not positive; try 8")
        if alpha <= 0:
            raise ValueError(f"alpha={alpha} is not positive; try {2 * rank}, twice the rank")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout} is not in [0, 1); 0 drops nothing")
        self.rank, self.alpha, self.dropout = rank, alpha, dropout

    def __call__(self, decoder: "Decoder", seed: int = 0) -> "Decoder":
        targets = self.linears(decoder)
        for name, linear in targets.items():
            side = min(linear.in_features, linear.out_features)
            if self.rank > side:
                raise ValueError(
                    f"rank={self.rank} is more than {side}, the smaller side of {name}; {side} fits, or other targets"
                )
        decoder.requires_grad_(False)
        for name, linear in targets.items():
            adapted = Adapted(linear, self.rank, self.alpha / self.rank, self.dropout)
            adapted.reset(Generator().manual_seed(derive_seed(seed, f"{name}.down.weight")))
            decoder.set_submodule(name, adapted)
        return decoder


class Adapted(Part):
    """A frozen Linear with its adapter."""

    def __init__(self, linear: nn.Linear, rank: int, scale: float, dropout: float) -> None:
        super().__init__()
        like = {"device": linear.weight.device, "dtype": linear.weight.dtype}
        self.base, self.scale = linear, scale
        self.down = nn.Linear(linear.in_features, rank, bias=False, **like)
        self.up = nn.Linear(rank, linear.out_features, bias=False, **like)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()

    @torch.no_grad()
    def reset(self, generator: Generator) -> None:
        """The first values, the same on every device and in every precision."""
        start = torch.empty(self.down.weight.shape)
        self.down.weight.copy_(nn.init.kaiming_uniform_(start, a=5**0.5, generator=generator))
        self.up.weight.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.scale * self.up(self.down(self.dropout(x)))

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        self.base.weight += self.scale * self.up.weight @ self.down.weight
        return self.base
