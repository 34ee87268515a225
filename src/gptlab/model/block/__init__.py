"""How the two halves of a layer, attention and MLP, are arranged."""

from collections.abc import Callable
from typing import Any

from torch import nn

from gptlab.model.attention import Attention
from gptlab.model.forward_pass import Flow
from gptlab.model.kv_cache import Memory
from gptlab.model.mlp import Mlp
from gptlab.model.norm import Norm
from gptlab.model.residual import Residual
from gptlab.model.shape import Shape


class Block(nn.Module):
    """The slot's contract: the children have the same names in every arrangement, so that weights can be moved."""

    attention: Attention
    mlp: Mlp
    attention_wire: Residual
    mlp_wire: Residual

    def __init__(
        self,
        shape: Shape,
        layer: int,
        attention: Callable[..., Attention],
        mlp: Callable[..., Mlp],
        residual: Callable[..., Residual],
        norm: Callable[..., Norm],
    ) -> None:
        super().__init__()
        self.attention = attention(shape, layer)
        self.mlp = mlp(shape, layer)
        self.attention_wire = residual(shape, layer, "attention", norm)
        self.mlp_wire = residual(shape, layer, "mlp", norm)

    def forward(self, stream: Any, flow: Flow, memory: Memory | None = None) -> Any:
        """The stream, (B, T, width) for most residuals, to the same."""
        raise NotImplementedError
