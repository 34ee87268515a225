"""What works on each position alone."""

from torch import Tensor, nn

from gptlab.flow import Flow


class Mlp(nn.Module):
    """The slot's contract: __init__(shape, layer, *, knobs). `hidden` is the inner width; what writes into the residual
    stream is called `out`; auxiliary losses are left in flow.losses by name."""

    hidden: int

    def forward(self, x: Tensor, flow: Flow) -> Tensor:
        """(B, T, width) to the same."""
        raise NotImplementedError

    def idle(self) -> int:
        """Weights of its Linears that one token does not meet."""
        return 0
