"""Scores of queries and keys whose every feature decays at its own rate, without a number above 1 on the way.

    w_ij = sum_d q_id k_jd exp(g_id - g_jd)  for j <= i        g is a sum of log decays, so it falls with i

As one matrix product, (q exp(g)) (k exp(-g))^T, it overflows, since exp(-g) has no bound. So a block of 2 s tokens is
cut in two, and the second half's queries meet the first half's keys, both counted from the border between them, where
every exponent is at most 0; then each half likewise, down to single tokens. GLA (arXiv:2312.06635, section 4) blocks
for the same reason, in two levels. No pair is computed that is not visible. A token with itself and with its neighbour
is multiplied feature by feature, since a product of thousands of such small matrices goes one by one.

The backward pass is written by hand: autograd keeps each level's pieces and took three times as long (12 x 64 tokens,
4 heads of 32, one thread: 6 ms forward and back against 17, 2026-11). It needs no gradient of an exponential, since
dL/dg_i = q_i dL/dq_i - k_i dL/dk_i but for the diagonal, which does not decay.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def score_decayed(q: Tensor, k: Tensor, log_decay: Tensor) -> Tensor:
    """Return the scores (..., R, K, C, C) of q (..., C, R, D) and k (..., C, K, D), 0 where a key is later.

    R queries and K keys stand at each of C places, a power of 2; log_decay (..., C, D) is summed over the places.
    """
    scores: Any = DecayedScores.apply(q, k, log_decay)
    return scores


class DecayedScores(Function):
    """The scores, with a backward pass of their own."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, log_decay: Tensor) -> Tensor:
        places, rows, columns = q.shape[-3], q.shape[-2], k.shape[-2]
        scores = q.new_zeros(*q.shape[:-3], rows, columns, places, places)
        saved = [q, k]
        for size in list_block_sizes(places):
            first, second = take_halves(log_decay, size, -2)
            border = first[..., -1:, :]
            q_decay, k_decay = (second - border).exp().unsqueeze(-2), (border - first).exp().unsqueeze(-2)
            scaled_q = (take_halves(q, size, -3)[1] * q_decay).flatten(-3, -2)  # (..., blocks, s R, D)
            scaled_k = (take_halves(k, size, -3)[0] * k_decay).flatten(-3, -2)
            # products of single rows: one matrix product each would cost more than it computes
            if size == 1:
                corners = multiply_pairs(scaled_q, scaled_k)[..., None, :, None, :]
            else:
                corners = (scaled_q @ scaled_k.mT).unflatten(-1, (size, columns)).unflatten(-3, (size, rows))
            take_corners(scores, size).copy_(corners)
            saved += [q_decay, k_decay, scaled_q, scaled_k]
        take_diagonal(scores).copy_(multiply_pairs(q, k))
        ctx.save_for_backward(*saved)
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, *saved = ctx.saved_tensors
        rows, columns = q.shape[-2], k.shape[-2]
        dq, dk = torch.zeros_like(q), torch.zeros_like(k)
        for level, size in enumerate(list_block_sizes(q.shape[-3])):
            q_decay, k_decay, scaled_q, scaled_k = saved[4 * level : 4 * level + 4]
            # copied, since the product of many small matrices that lie far apart goes one by one
            corners = take_corners(d_scores, size).contiguous().flatten(-2).flatten(-3, -2)
            d_scaled_q = gather_pairs(corners, scaled_k) if size == 1 else corners @ scaled_k
            transposed = corners.mT.contiguous()
            d_scaled_k = gather_pairs(transposed, scaled_q) if size == 1 else transposed @ scaled_q
            take_halves(dq, size, -3)[1].addcmul_(d_scaled_q.unflatten(-2, (size, rows)), q_decay)
            take_halves(dk, size, -3)[0].addcmul_(d_scaled_k.unflatten(-2, (size, columns)), k_decay)
        # here dq and dk hold the corners alone: a place's own score has no decay
        d_log_decay = (q * dq).sum(-2) - (k * dk).sum(-2)
        diagonal = take_diagonal(d_scores)
        return dq + gather_pairs(diagonal, k), dk + gather_pairs(diagonal.mT, q), d_log_decay


def multiply_pairs(q: Tensor, k: Tensor) -> Tensor:
    """Return q k^T (..., R, K) for few q (..., R, D) and k (..., K, D) at very many places."""
    return (q.unsqueeze(-2) * k.unsqueeze(-3)).sum(-1)


def gather_pairs(weights: Tensor, k: Tensor) -> Tensor:
    """Return weights k (..., R, D) for few k (..., K, D) at very many places."""
    y = weights[..., 0, None] * k[..., 0, None, :]
    for place in range(1, k.shape[-2]):
        y = torch.addcmul(y, weights[..., place, None], k[..., place, None, :])
    return y


def list_block_sizes(places: int) -> list[int]:
    """Return half the tokens of a block at each level, the largest first."""
    return [1 << level for level in reversed(range(places.bit_length() - 1))]


def take_halves(x: Tensor, size: int, axis: int) -> tuple[Tensor, Tensor]:
    """Return views of the first and second halves of all blocks of 2 `size` places: (..., blocks, size, ...)."""
    blocks = x.unflatten(axis, (-1, 2, size))
    return blocks.select(axis - 1, 0), blocks.select(axis - 1, 1)


def take_corners(scores: Tensor, size: int) -> Tensor:
    """Return a view of the lower left quarters of all blocks of 2 `size` places, (..., blocks, size, R, size, K)."""
    blocks = scores.unflatten(-1, (-1, 2, size)).unflatten(-4, (-1, 2, size))
    corners = blocks.select(-5, 1).select(-2, 0).diagonal(dim1=-4, dim2=-2)  # (..., R, K, size, size, blocks)
    return corners.movedim((-1, -3, -5, -2, -4), (-5, -4, -3, -2, -1))


def take_diagonal(scores: Tensor) -> Tensor:
    """Return a view of the scores of queries and keys at the same place, (..., C, R, K)."""
    return scores.diagonal(dim1=-2, dim2=-1).movedim(-1, -3)
