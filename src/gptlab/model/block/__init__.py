"""Block: the arrangement of attention and MLP in a layer."""

from collections.abc import Callable
from typing import Any

from torch import nn

from gptlab.model.attention import Attention
from gptlab.model.forward_pass import ForwardPass
from gptlab.model.kv_cache import LayerCache
from gptlab.model.mlp import Mlp
from gptlab.model.norm import Norm
from gptlab.model.residual import Residual
from gptlab.model.shape import Shape


class Block(nn.Module):
    """Contract of the slot. Children have the same names in every arrangement, so that weights can be moved.

    adds_branches  whether what its branches write stays in the stream, so that the depth adds them up
    """

    adds_branches: bool = False

    attention: Attention
    mlp: Mlp
    attention_residual: Residual
    mlp_residual: Residual

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
        # a residual builds its own norms: how many, and where, is what sets pre, post and sandwich apart
        self.attention_residual = residual(shape, layer, "attention", norm)
        self.mlp_residual = residual(shape, layer, "mlp", norm)
        self.register_load_state_dict_pre_hook(_rename_old_keys)

    def forward(self, stream: Any, forward_pass: ForwardPass, cache: LayerCache | None = None) -> Any:
        """Map the stream, (B, T, width) for most residuals, to the same."""
        raise NotImplementedError


def _rename_old_keys(_: nn.Module, state: dict[str, Any], prefix: str, *__: Any) -> None:
    """Rename the residuals in checkpoints written before 2026-12, which call them attention_wire and mlp_wire."""
    for branch in ("attention", "mlp"):
        old_prefix = f"{prefix}{branch}_wire."
        for name in [name for name in state if name.startswith(old_prefix)]:
            state[f"{prefix}{branch}_residual.{name.removeprefix(old_prefix)}"] = state.pop(name)
