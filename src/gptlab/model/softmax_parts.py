"""Parts of softmax attention that its knobs ask for, what it reads, and refusals of knobs."""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from gptlab.model.forward_pass import PassMask
from gptlab.model.recurrence.parts import ShortConv
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


class ValueEmbedding(nn.Module):
    """A learned vector of each token, as wide as the values, which is mixed into them.

    a v + b E[token]                    a, b = 1/2 at first (modded-nanogpt, records of 2024-12 to 2025-02)
    v + 2 sigmoid(gate x) E[token]      one gate a head, 1 at first (nanochat, 2026)

    A table costs parameters and no FLOPs. Departures: tables are drawn as every embedding is; modded-nanogpt draws its
    own with std 1 and shares each between two layers, nanochat's gate reads the first features of x alone.
    """

    def __init__(self, shape: Shape, kv_heads: int, gated: bool) -> None:
        super().__init__()
        self.kv_heads = kv_heads
        self.embedding = nn.Embedding(shape.vocab, kv_heads * shape.head)
        self.gate = nn.Linear(shape.width, kv_heads, bias=False) if gated else None
        self.mix = None if gated else nn.Parameter(torch.tensor([0.5, 0.5]))

    def adjust_initial_weights(self) -> None:
        """Start every gate at 1: its logits at 0."""
        if self.gate is not None:
            nn.init.zeros_(self.gate.weight)

    def forward(self, v: Tensor, x: Tensor, tokens: Tensor) -> Tensor:
        """Return the values (B, T, K, D) of tokens (B, T), whose layer's input is x (B, T, width)."""
        of_tokens = self.embedding(tokens).unflatten(-1, (self.kv_heads, -1))  # (B, T, K, D)
        if self.mix is not None:
            return self.mix[0] * v + self.mix[1] * of_tokens
        assert self.gate is not None
        return v + 2 * self.gate(x).sigmoid()[..., None] * of_tokens


def make_value_embedding(shape: Shape, kv_heads: int, kind: bool | Literal["gate"]) -> ValueEmbedding | None:
    """Return the part that mixes vectors of tokens into values, if asked for."""
    return ValueEmbedding(shape, kv_heads, kind == "gate") if kind else None


def make_short_conv(size: int | None, channels: int) -> ShortConv | None:
    """Return the convolution of queries, keys and values over so many tokens, if asked for."""
    if size is not None and size < 2:
        raise ValueError(f"short_conv={size} sees no token before its own; try 4, or null for none")
    return None if size is None else ShortConv(channels, size)


def make_norm(qk_norm: bool | Literal["whole"], heads: int, head: int) -> nn.Module:
    """Return the norm of queries or keys: of each head, of all heads at once, or none."""
    if not qk_norm:
        return nn.Identity()
    return nn.RMSNorm(heads * head if qk_norm == "whole" else head, eps=1e-6)


@torch.no_grad()
def measure_largest_scores(q: Tensor, k: Tensor, pass_mask: PassMask, scale: float | None) -> Tensor:
    """Return the largest scaled score of each head over all visible pairs, (H,), for q (B, T, H, D), k (B, S, K, D)."""
    # (B, S, H, D): each query head beside the key head that it reads
    k = k.repeat_interleave(q.shape[2] // k.shape[2], 2)
    scores = torch.einsum("bthd,bshd->bhts", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)
    # over rows, queries and keys; heads stay
    return scores.masked_fill(~pass_mask.tensor(), -torch.inf).amax((0, 2, 3))


@torch.no_grad()
def clip_heads(q: nn.Linear, k: nn.Linear, largest: Tensor, clip: float, head: int) -> None:
    """Scale the heads of two Linears so that scores as large as `largest` (H,) become `clip`; smaller ones stay.

    Queries and keys each take the root of the factor (Kimi K2, arXiv:2507.20534, algorithm 1). Keys that several heads
    read take the root of the least of their factors, and each query what is left of its own.
    """
    factors = (clip / largest.clamp(min=clip)).to(find_trained_weight(q).dtype)  # (H,), 1 at most
    of_keys = factors.view(k.out_features // head, -1).amin(1).sqrt()  # (K,)
    # the product of both roots is the factor: a query of a shared key makes up for what the key did not take
    of_queries = factors / of_keys.repeat_interleave(len(factors) // len(of_keys))
    for linear, scales in ((q, of_queries), (k, of_keys)):
        rows = scales.repeat_interleave(head)
        find_trained_weight(linear).mul_(rows[:, None])
        if linear.bias is not None:
            linear.bias.mul_(rows)


def find_trained_weight(linear: nn.Linear) -> Tensor:
    """Return the weight of a Linear that training changes: below a mask or a rounding, where a change has put one."""
    # .weight of a parametrised Linear is computed anew each time, so that what is written into it is lost
    return linear.get_parameter("parametrizations.weight.original" if is_parametrized(linear, "weight") else "weight")


class ScoreClip:
    """The clip of one layer's scores (MuonClip, Kimi K2, arXiv:2507.20534).

    limit    largest score that is left alone
    largest  largest score of each head since the last step, (H,); None before any
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.largest: Tensor | None = None

    def observe(self, q: Tensor, k: Tensor, pass_mask: PassMask, scale: float | None) -> Tensor:
        """Remember the scores of a training pass; return the largest of them."""
        largest = measure_largest_scores(q, k, pass_mask, scale)
        self.largest = largest if self.largest is None else largest.maximum(self.largest)
        return largest.max()

    def scale_down(self, q: nn.Linear, k: nn.Linear, head: int) -> None:
        """Scale the heads of two Linears by the scores of all micro-batches and processes, and forget these."""
        if self.largest is None:
            return
        # every process has seen other rows, and all must scale their copies alike
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(self.largest, torch.distributed.ReduceOp.MAX)
        clip_heads(q, k, self.largest, clip=self.limit, head=head)
        self.largest = None


def remove_component(y: Tensor, direction: Tensor) -> Tensor:
    """Return y less its component along `direction`, both (..., D)."""
    # a direction of zeros takes nothing away
    squares = direction.square().sum(-1, keepdim=True)
    return y - (y * direction).sum(-1, keepdim=True) / squares.clamp(min=1e-12) * direction


def refuse_bad_knobs(
    shape: Shape, kv_heads: int, window: int | None, scale: float | None, softcap: float | None, dropout: float
) -> None:
    """Raise ValueError for numbers outside their range."""
    if kv_heads < 1 or shape.heads % kv_heads:
        numbers = ", ".join(map(str, divisors(shape.heads)))
        suggestions = " or ".join(numbers.rsplit(", ", 1))  # 1, 2 or 4
        raise ValueError(f"kv_heads={kv_heads} does not divide model.heads={shape.heads}; try {suggestions}")
    if window is not None and window < 1:
        raise ValueError(f"window={window} sees nothing; give a number of keys > 0, or null for all of them")
    if scale is not None and scale <= 0:
        raise ValueError(f"scale={scale} is not positive; null is 1 / sqrt(head width)")
    if softcap is not None and softcap <= 0:
        raise ValueError(f"softcap={softcap} is not positive; null caps nothing")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout={dropout} is not in [0, 1); 0 drops nothing")


def refuse_bad_clip(qk_clip: float | None, qk_norm: bool | str) -> None:
    """Raise ValueError for a clip that is not positive, and for one of weights whose size a norm takes away."""
    if qk_clip is not None and qk_clip <= 0:
        raise ValueError(f"qk_clip={qk_clip} is not positive; try 100, or null for none")
    if qk_clip is not None and qk_norm:
        raise ValueError(f"qk_clip={qk_clip} scales weights whose size qk_norm takes away; say qk_clip=null")


def refuse_fixed_weights(decoder: nn.Module) -> None:
    """Raise ValueError where attention.qk_clip would scale weights that a change has frozen, packed or replaced."""
    for name, part in decoder.named_modules():
        if getattr(part, "qk_clip", None) is None:
            continue
        for projection in ("q", "k"):
            linear: Any = part.get_submodule(projection)
            # below a mask or a rounding there still is a weight that learns; an adapted or packed Linear has none
            has_weight = isinstance(linear, nn.Linear) and ("weight" in linear._parameters or is_parametrized(linear))
            if not has_weight or not find_trained_weight(linear).requires_grad:
                raise ValueError(
                    f"attention.qk_clip scales the weights of {name}.{projection}, which a change has frozen, packed "
                    "or replaced; say attention.qk_clip=null"
                )


def refuse_bad_sharing(layer: int, share_with: int | None, **of_own_values: bool | str | float | None) -> None:
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
            off = "null" if name in ("short_conv", "qk_clip") else "false"
            raise ValueError(f"share_with={share_with} reads values as they are; say {name}={off} here")
