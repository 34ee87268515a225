"""MLP: the part that works on each position alone."""

from collections.abc import Callable

from torch import Tensor, nn

from gptlab.model.forward_pass import ForwardPass

MapRows = Callable[[Tensor], Tensor]
"""A Linear, or what stands for it."""


class Mlp(nn.Module):
    """Contract of the slot: __init__(shape, layer, *, knobs); what writes into the residual stream is called `out`.

    hidden  inner width

    Auxiliary losses are left in forward_pass.losses by name.
    """

    hidden: int

    def forward(self, x: Tensor, forward_pass: ForwardPass) -> Tensor:
        """Map (B, T, width) to the same."""
        # its children by name are the Linears that `compute` asks for
        return self.compute(x, **dict(self.named_children()))

    def compute(self, x: Tensor, **linears: MapRows) -> Tensor:
        """Map (..., width) to the same by these Linears, called as its own are.

        An MLP that is this formula and no more can be an expert of a mixture whose products are grouped.
        """
        raise NotImplementedError

    def inactive_weights(self, frozen: bool = False) -> int:
        """Count the weights of its Linears that one token does not meet; if `frozen`, of those that do not learn."""
        return 0

    def inactive_parameters(self) -> int:
        """Count the parameters, biases and all, that one token does not meet."""
        return 0


def count_weights(module: nn.Module, frozen: bool = False) -> int:
    """Count the weights of all Linears in a module; if `frozen`, of those that do not learn."""
    count = 0
    for linear in module.modules():
        if isinstance(linear, nn.Linear):
            learns = any(p.requires_grad for p in linear.parameters())
            if not (frozen and learns):
                count += linear.weight.numel()
    return count
