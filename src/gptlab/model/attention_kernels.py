"""Attention kernels behind one function: out = softmax(scale q k^T + bias, over the visible keys) v.

    naive   the plain formula, every score written out: the tests' reference, and the only one that learns a bias
    sdpa    torch's scaled_dot_product_attention, by is_causal where the mask is plain, else by a mask tensor
    flex    torch's FlexAttention with the mask as a predicate: blocks without visible pairs cost nothing. Compiled on
            GPUs; it has no backward on CPU (torch 2.13)

A sink (gpt-oss; Miller 2023) is one more logit per head that takes a share of the softmax and carries no value.
Softcap (Gemma 2, arXiv:2408.00118): z = cap tanh(z / cap). `force_kernel` forces a choice; `record_kernels` says which
ran.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from gptlab.model.forward_pass import PassMask

# a stack each, since the blocks of force_kernel and record_kernels may be nested
_forced_kernels: list[str] = []
_recordings: list[list[str]] = []


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pass_mask: PassMask,
    *,
    bias: Tensor | None = None,
    scale: float | None = None,
    sink: Tensor | None = None,
    softcap: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Attend from q (B, T, H, D) to k (B, S, K, D) and v (B, S, K, E); return (B, T, H, E). K divides H.

    bias     (B|1, H, T, S), added to the scaled scores
    scale    factor of the scores; None is 1 / sqrt(D)
    sink     (H,), one more logit in the softmax
    softcap  cap of the scaled scores; None caps nothing
    dropout  acts on the attention weights

    A query that sees no key gives 0.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    # kernels want heads before positions: (B, H, T, D), (B, K, S, D), (B, K, S, E)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    kernel_name = (
        _forced_kernels[-1]
        if _forced_kernels
        else choose_kernel(q, v.shape[-1], pass_mask, bias=bias, sink=sink, softcap=softcap, dropout=dropout)
    )
    # recorded where the choice has fallen, so that summary.json names what ran
    for recording in _recordings:
        causal = kernel_name == "sdpa" and _is_plain_causal(pass_mask, bias, sink)
        recording.append(f"{kernel_name}/causal" if causal else kernel_name)
    kernel = KERNELS[kernel_name]
    y = kernel(q, k, v, pass_mask, bias=bias, scale=scale, sink=sink, softcap=softcap, dropout=dropout)
    return y.transpose(1, 2)


MIN_FLEX_WIDTH = 16
"""Features of a head that FlexAttention's kernel takes at least; narrower ones raise when they are compiled."""


def choose_kernel(
    q: Tensor,
    value_width: int,
    pass_mask: PassMask,
    *,
    bias: Tensor | None,
    sink: Tensor | None,
    softcap: float | None,
    dropout: float,
) -> str:
    """Choose the kernel: flex where a compiled GPU step can skip blocks or fuse what SDPA cannot.

    A sink is one of these: as a key of its own it makes heads of D + 1 features, which no fused kernel of SDPA takes.
    """
    # only the plain formula gives a bias its gradient
    learned_bias = bias is not None and bias.requires_grad
    unusual = softcap is not None or sink is not None
    # a plain causal mask goes to flash; a bias is a tensor of all pairs, which flex would have to read whole too
    flex_pays = unusual or not (pass_mask.causal or bias is not None)
    if (
        q.is_cuda
        and torch.compiler.is_compiling()
        and flex_pays
        and not learned_bias
        and not dropout
        # flex skips blocks of 128 queries and keys: of fewer there is nothing to skip
        and q.shape[2] >= 128
        and min(q.shape[-1], value_width) >= MIN_FLEX_WIDTH
    ):
        return "flex"
    return "naive" if learned_bias or softcap is not None else "sdpa"


def _is_plain_causal(pass_mask: PassMask, bias: Tensor | None, sink: Tensor | None) -> bool:
    return pass_mask.causal and bias is None and sink is None


def repeat_shared_heads(q, k, v) -> tuple[Tensor, Tensor]:
    """Return k and v with each head written out for every query head that shares it, (B, H, S, D) and (B, H, S, E)."""
    groups = q.shape[1] // k.shape[1]
    if groups == 1:
        return k, v
    return k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)


def attend_naive(q, k, v, pass_mask, *, bias, scale, sink, softcap, dropout) -> Tensor:
    """Write out every score.

    Shapes as in `attend` with heads before positions: (B, H, T, D), (B, K, S, D), (B, K, S, E).
    """
    k, v = repeat_shared_heads(q, k, v)
    # scaling q, T x D, is less work than scaling the scores
    z = q * scale @ k.transpose(-1, -2)  # (B, H, T, S)
    if softcap is not None:
        z = softcap * torch.tanh(z / softcap)
    if bias is not None:
        z = z + bias
    visible = pass_mask.tensor()
    # after softcap and bias: a cap would make a finite number of -inf
    z = z.masked_fill(~visible, -torch.inf)
    if sink is not None:
        z = torch.cat([z, sink.view(1, -1, 1, 1).expand(*z.shape[:-1], 1)], -1)
    # A query that sees no key has scores of -inf alone, whose softmax is NaN, backward too: its scores are set to 0
    # before the softmax, its weights after.
    sees_nothing = ~visible.any(-1, keepdim=True)
    weights = z.masked_fill(sees_nothing, 0.0).softmax(-1).masked_fill(sees_nothing, 0.0)
    # the last column is the sink's share, which meets no value; dropout is 0 outside training
    return F.dropout(weights[..., : k.shape[2]], dropout) @ v


def attend_sdpa(q, k, v, pass_mask, *, bias, scale, sink, softcap, dropout) -> Tensor:
    """Call torch's fused kernel; a sink becomes one more key. Raises ValueError on a softcap."""
    if softcap is not None:
        raise ValueError("softcap: the kernel sdpa cannot cap scores; use naive or flex")
    # SDPA repeats shared heads itself, faster than we could: 0.81 ms against 1.02 (docs/log.md, 2026-11-22)
    grouped = q.shape[1] != k.shape[1]
    if _is_plain_causal(pass_mask, bias, sink):
        # is_causal needs no mask tensor, which on a GPU leaves flash attention open
        return F.scaled_dot_product_attention(
            q, k, v, dropout_p=dropout, is_causal=True, scale=scale, enable_gqa=grouped
        )
    mask = pass_mask.tensor()
    if sink is not None:
        q, k, v, mask, bias = prepend_sink_key(q, k, v, mask=mask, bias=bias, scale=scale, sink=sink)
        # prepend_sink_key has repeated the shared heads
        grouped = False
    if bias is not None:
        # SDPA takes one tensor for both: a float mask is added to the scores
        mask = bias.to(q.dtype).masked_fill(~mask, -torch.inf)
    return F.scaled_dot_product_attention(q, k, v, mask, dropout_p=dropout, scale=scale, enable_gqa=grouped)


def prepend_sink_key(q, k, v, *, mask, bias, scale, sink):
    """Return q, k, v, mask and bias with the sink as a first key of value 0.

    Queries grow a feature 1 that meets sink / scale in this key alone.
    """
    # each query head has a sink of its own, so a key head can no longer be shared
    k, v = repeat_shared_heads(q, k, v)
    q = F.pad(q, (0, 1), value=1.0)
    # divided by scale, since the kernel multiplies all scores by it
    last_feature = (sink / scale).to(k.dtype).view(1, -1, 1, 1)
    sink_key = F.pad(last_feature, (k.shape[-1], 0)).expand(k.shape[0], -1, -1, -1)  # (B, H, 1, D + 1)
    k = torch.cat([sink_key, F.pad(k, (0, 1))], 2)  # (B, H, 1 + S, D + 1)
    v = F.pad(v, (0, 0, 1, 0))
    mask = F.pad(mask, (1, 0), value=True)  # a query that sees nothing else gets the sink's value, which is 0
    return q, k, v, mask, None if bias is None else F.pad(bias, (1, 0))


def attend_flex(q, k, v, pass_mask, *, bias, scale, sink, softcap, dropout) -> Tensor:
    """Call FlexAttention with the mask as a predicate. Raises ValueError on dropout."""
    from torch.nn.attention.flex_attention import AuxRequest, create_block_mask, flex_attention

    if dropout:
        raise ValueError(f"dropout={dropout}: the kernel flex has no dropout; use sdpa or naive")
    query_positions, key_positions = pass_mask.query_positions, pass_mask.key_positions
    documents = pass_mask.documents

    def is_visible(b, _head, i, j):
        # positions may be one row for the whole batch: b % 1 reads it for every b, without a branch in the graph
        visible = pass_mask.mask.is_visible(
            query_positions[b % query_positions.shape[0], i], key_positions[b % key_positions.shape[0], j]
        )
        return visible if documents is None else visible & (documents[b, i] == documents[b, j])

    def modify_score(z, b, h, i, j):
        z = z if softcap is None else softcap * torch.tanh(z / softcap)
        return z if bias is None else z + bias[b % bias.shape[0], h, i, j]

    # one block mask for all heads, and for all rows where they share their positions
    batch = max(query_positions.shape[0], key_positions.shape[0])
    block_mask = create_block_mask(
        is_visible, B=batch, H=None, Q_LEN=q.shape[2], KV_LEN=k.shape[2], device=q.device.type
    )
    out, aux = flex_attention(
        q,
        k,
        v,
        score_mod=modify_score,
        block_mask=block_mask,
        scale=scale,
        enable_gqa=q.shape[1] != k.shape[1],
        return_aux=AuxRequest(lse=True),
    )
    if sink is None:
        return out
    # softmax with one more logit s scales every weight by e^lse / (e^lse + e^s)
    return out * (aux.lse - sink.view(1, -1, 1)).sigmoid()[..., None].to(out.dtype)


KERNELS = {"naive": attend_naive, "sdpa": attend_sdpa, "flex": attend_flex}


@contextmanager
def force_kernel(name: str) -> Iterator[None]:
    """Force one kernel inside the block."""
    _forced_kernels.append(name)
    try:
        yield
    finally:
        _forced_kernels.pop()


@contextmanager
def record_kernels() -> Iterator[list[str]]:
    """Yield a list that collects the names of the kernels that run (eagerly) inside the block."""
    recording: list[str] = []
    _recordings.append(recording)
    try:
        yield recording
    finally:
        _recordings.remove(recording)
