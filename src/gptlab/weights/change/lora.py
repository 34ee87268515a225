"""Low-rank adapters (LoRA, Hu 2021, arXiv:2106.09685).

All weights freeze, and each target learns the product of two small matrices beside its own:

    y = W x + b + alpha / rank up(down(dropout(x)))

It is made for weights that others trained (pretrained=...). Beside a decoder that was drawn at random it trains little
more than a random projection, and a run says so.

`down` starts as torch's Linears do, `up` at 0, so that the decoder computes the same at first. Which learning rate
suits it depends on alpha / rank, not on the rank (Schulman 2025, thinkingmachines.ai/blog/lora).
"""

from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor, nn

from gptlab.model.rng import derive_seed
from gptlab.weights.change import Change, ChangeModule

if TYPE_CHECKING:
    from gptlab.model.decoder import Decoder


class Lora(Change):
    """Freeze the decoder, and adapt the targets.

    rank     inner size of the product, at most the smaller side of every target
    alpha    the product is scaled by alpha / rank
    dropout  of the adapters' inputs
    """

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
        targets = self.find_linears(decoder)
        for name, linear in targets.items():
            smaller_side = min(linear.in_features, linear.out_features)
            if self.rank > smaller_side:
                raise ValueError(
                    f"rank={self.rank} is more than {smaller_side}, the smaller side of {name}; "
                    f"{smaller_side} fits, or other targets"
                )
        # before the adapters are put in, which alone learn
        decoder.requires_grad_(False)
        for name, linear in targets.items():
            adapted = LoraLinear(linear, self.rank, self.alpha / self.rank, self.dropout)
            # keyed by name, so that other targets leave the draws of this one as they are
            adapted.reset_weights(Generator().manual_seed(derive_seed(seed, f"{name}.down.weight")))
            decoder.set_submodule(name, adapted)
        return decoder


class LoraLinear(ChangeModule):
    """A frozen Linear with its adapter."""

    def __init__(self, linear: nn.Linear, rank: int, scale: float, dropout: float) -> None:
        super().__init__()
        placement = {"device": linear.weight.device, "dtype": linear.weight.dtype}
        self.base, self.scale = linear, scale
        self.down = nn.Linear(linear.in_features, rank, bias=False, **placement)
        self.up = nn.Linear(rank, linear.out_features, bias=False, **placement)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()

    @torch.no_grad()
    def reset_weights(self, generator: Generator) -> None:
        """Set the first values, the same on every device and in every precision."""
        drawn = torch.empty(self.down.weight.shape)  # not on the weights' device, whose generator draws other numbers
        self.down.weight.copy_(nn.init.kaiming_uniform_(drawn, a=5**0.5, generator=generator))
        # so the product is 0 and the decoder unchanged; `down` is drawn, or neither would have a gradient
        self.up.weight.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.scale * self.up(self.down(self.dropout(x)))

    @torch.no_grad()
    def to_plain_module(self) -> nn.Linear:
        self.base.weight += self.scale * self.up.weight @ self.down.weight  # (out, rank) (rank, in)
        return self.base
