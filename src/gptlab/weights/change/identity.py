"""Square Linears replaced by the identity, y = x: what a projection is worth, as a choice of an architecture search."""

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn.utils import parametrize

from gptlab.weights.change import Change, ChangeModule

if TYPE_CHECKING:
    from gptlab.model.decoder import Decoder


class Identity(Change):
    """Replace Linears by the identity.

    targets  globs of Linears that have as many outputs as inputs
    """

    def __call__(self, decoder: "Decoder", seed: int = 0) -> "Decoder":
        if any(isinstance(module, ChangeModule) or parametrize.is_parametrized(module) for module in decoder.modules()):
            raise ValueError(
                f"targets={self.targets[0]}: an earlier change has altered the decoder; put identity first"
            )
        for name, linear in self.find_linears(decoder).items():
            if linear.in_features != linear.out_features:
                sizes = f"{linear.in_features} to {linear.out_features}"
                raise ValueError(
                    f"targets={','.join(self.targets)} takes in {name}, which leads from {sizes}; name others"
                )
            decoder.set_submodule(name, IdentityLinear(linear))
        return decoder


class IdentityLinear(ChangeModule):
    """The identity in place of a Linear."""

    like: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("like", linear.weight.detach().new_empty(0), persistent=False)  # follows .to(dtype)
        self.features, self.has_bias = linear.out_features, linear.bias is not None

    def forward(self, x: Tensor) -> Tensor:
        return x

    def to_plain_module(self) -> nn.Module:
        placement = {"device": self.like.device, "dtype": self.like.dtype}
        linear = nn.Linear(self.features, self.features, bias=self.has_bias, **placement)
        nn.init.eye_(linear.weight)
        if self.has_bias:
            nn.init.zeros_(linear.bias)
        return linear
