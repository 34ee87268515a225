"""Square Linears left out: y = x. What a projection is worth is one question of an architecture search."""

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn.utils import parametrize

from gptlab.weights.change import Change, Part

if TYPE_CHECKING:
    from gptlab.model.decoder import Decoder


class Identity(Change):
    """targets: of Linears whose inputs are as many as their outputs."""

    def __call__(self, decoder: "Decoder", seed: int = 0) -> "Decoder":
        if any(isinstance(part, Part) or parametrize.is_parametrized(part) for part in decoder.modules()):
            raise ValueError(
                f"targets={self.targets[0]}: an earlier change has altered the decoder; put identity first"
            )
        for name, linear in self.linears(decoder).items():
            if linear.in_features != linear.out_features:
                sizes = f"{linear.in_features} to {linear.out_features}"
                raise ValueError(
                    f"targets={','.join(self.targets)} takes in {name}, which leads from {sizes}; name others"
                )
            decoder.set_submodule(name, Nothing(linear))
        return decoder


class Nothing(Part):
    """x, in place of a Linear."""

    like: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("like", linear.weight.detach().new_empty(0), persistent=False)  # follows .to(dtype)
        self.features, self.biased = linear.out_features, linear.bias is not None

    def forward(self, x: Tensor) -> Tensor:
        return x

    def merged(self) -> nn.Module:
        made = nn.Linear(self.features, self.features, bias=self.biased, device=self.like.device, dtype=self.like.dtype)
        nn.init.eye_(made.weight)
        if self.biased:
            nn.init.zeros_(made.bias)
        return made
