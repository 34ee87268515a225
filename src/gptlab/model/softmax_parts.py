"""Parts of softmax attention that are no formula of its own: norms, what it reads, refusals of knobs."""

from typing import Literal, NamedTuple

from torch import Tensor, nn

from gptlab.model.shape import Shape, divisors


class Reading(NamedTuple):
    """What attention reads: q (B, T, H, D), k and v (B, S, K, D) at positions (B|1, S).

    own_v      values of the queries' own tokens, (B, T, K, D), if what is read excludes them
    forgotten  what scores lose to forgetting, (B, H, T, S)
    """

    q: Tensor
    k: Tensor
    v: Tensor
    key_positions: Tensor
    own_v: Tensor | None
    forgotten: Tensor | None


def make_norm(qk_norm: bool | Literal["whole"], heads: int, head: int) -> nn.Module:
    """Return the norm of queries or keys: of each head, of all heads at once, or none."""
    if not qk_norm:
        return nn.Identity()
    return nn.RMSNorm(heads * head if qk_norm == "whole" else head, eps=1e-6)


def remove_component(y: Tensor, direction: Tensor) -> Tensor:
    """Return y less its component along `direction`, both (..., D)."""
    squares = direction.square().sum(-1, keepdim=True)
    return y - (y * direction).sum(-1, keepdim=True) / squares.clamp(min=1e-12) * direction


def refuse_bad_knobs(
    shape: Shape, kv_heads: int, window: int | None, scale: float | None, softcap: float | None, dropout: float
) -> None:
    """Raise ValueError for numbers outside their range."""
    if kv_heads < 1 or shape.heads % kv_heads:
        suggestions = " or ".join(", ".join(map(str, divisors(shape.heads))).rsplit(", ", 1))
        raise ValueError(f"kv_heads={kv_heads} does not divide model.heads={shape.heads}; try {suggestions}")
    if window is not None and window < 1:
        raise ValueError(f"window={window} sees nothing; give a number of keys > 0, or null for all of them")
    if scale is not None and scale <= 0:
        raise ValueError(f"scale={scale} is not positive; null is 1 / sqrt(head width)")
    if softcap is not None and softcap <= 0:
        raise ValueError(f"softcap={softcap} is not positive; null caps nothing")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout={dropout} is not in [0, 1); 0 drops nothing")


def refuse_bad_sharing(layer: int, share_with: int | None, **of_own_values: bool) -> None:
    """Raise ValueError for a layer to read that does not exist, and for knobs that ask for values of its own."""
    if share_with is None:
        return
    if not 1 <= share_with <= layer:
        raise ValueError(
            f"share_with={share_with} leads from layer {layer} to none above; "
            "tile readers with owners by a pattern, as attention=shared does"
        )
    for name, value in of_own_values.items():
        if value:
            raise ValueError(f"share_with={share_with} reads values as they are; say {name}=false here")
