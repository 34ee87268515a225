"""Recurrences with a linear state, token by token and in chunks: what all mixers without a softmax have in common.

    D_t = exp(g_t) S_(t-1)        S_t = D_t + b_t (a_t^T D_t) + k_t v_t^T        y_t = S_t^T q_t

S (D, E) is a head's state. exp(g) decays it, as a whole (one number a head) or row by row (one a feature of the key).
a and b rewrite it: a reads what the decayed state holds, b writes the change. The delta rule is a = -k, and beta k in
the place of b and k (Yang 2024, arXiv:2412.06464): what k finds is replaced by v, not added to.

In chunks of C tokens all products are matrices. With G the sum of g from the chunk's start, u_t = a_t^T D_t, and
scores(x, y)_ij = sum_d x_id y_jd exp(G_id - G_jd) for j <= i (j < i where x is a),

    (I - scores(a, b)) U = scores(a, k) V + (a exp(G)) S        a triangular system: the WY or UT transform
    Y = (q exp(G)) S + scores(q, b) U + scores(q, k) V

which is linear in the state S at the start of the chunk. So all but one product a chunk is done for all chunks at once.
No exponent is ever positive, hence nothing overflows however fast a state decays.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gptlab.model.recurrence.decayed_scores import score_decayed


class Rewrite(NamedTuple):
    """Vectors (B, T, H, D) by which a state rewrites itself; `write` None is the key."""

    read: Tensor
    write: Tensor | None = None

    def apply(self, change: Callable[[Tensor], Tensor]) -> "Rewrite":
        """Return the vectors as a function changes each."""
        return Rewrite(change(self.read), None if self.write is None else change(self.write))


def mix(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state: Tensor, chunk: int, rewrite: Rewrite | None = None
) -> tuple[Tensor, Tensor]:
    """Return the outputs (B, T, H, E) and the last state (B, H, D, E) in the dtype of q and of `state`.

    q, k       (B, T, H, D); v (B, T, H, E); H may be 1 in q and k, which all heads then share
    log_decay  (B|1, T, H, 1) or (B|1, T, H, D), at most 0
    state      (B, H, D, E), that before the first token
    chunk      tokens computed at once, a power of 2 if decays differ by feature; it changes the time, not the result
    """
    # a state sums over the whole text, and decays near 1 would round to 1 in bfloat16
    dtype, wide = q.dtype, torch.promote_types(q.dtype, torch.float32)
    scan = scan_tokens if q.shape[1] == 1 else scan_chunks

    def arrange(x: Tensor) -> Tensor:
        # copied once, not before each of the products that it enters
        return x.to(wide).transpose(1, 2).contiguous()

    rewrite = None if rewrite is None else rewrite.apply(arrange)
    q, k, v, log_decay = arrange(q), arrange(k), arrange(v), arrange(log_decay)
    y, last = scan(q, k, v, log_decay, state=state.to(wide), chunk=chunk, rewrite=rewrite)
    return y.transpose(1, 2).to(dtype), last.to(state.dtype)


def scan_tokens(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state: Tensor, chunk: int = 1, rewrite: Rewrite | None = None
) -> tuple[Tensor, Tensor]:
    """Follow the recurrence token by token, with heads before time: q (B, H, T, D). The reference of the chunks."""
    del chunk  # taken so that both forms are called alike
    outputs = []
    for t in range(q.shape[2]):
        state = log_decay[:, :, t, :, None].exp() * state  # (B, H, D, E)
        if rewrite is not None:
            write = k if rewrite.write is None else rewrite.write
            change = rewrite.read[:, :, t, None] @ state  # (B, H, 1, E)
            state = state + write[:, :, t, :, None] * change
        state = state + k[:, :, t, :, None] * v[:, :, t, None]
        outputs.append(q[:, :, t, None] @ state)
    return torch.cat(outputs, 2), state


def scan_chunks(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state: Tensor, chunk: int, rewrite: Rewrite | None = None
) -> tuple[Tensor, Tensor]:
    """Compute the recurrence in chunks, with heads before time: q (B, H, T, D). Equal to `scan_tokens`."""
    length = q.shape[2]
    size = fit_chunk(length, chunk)

    def split(x: Tensor) -> Tensor:
        # (B, H, N, C, D): what is padded neither decays, nor writes, nor is read
        return (F.pad(x, (0, 0, 0, -length % size)) if length % size else x).unflatten(2, (-1, size))

    q, k, v, log_decay = (split(x) for x in (q, k, v, log_decay))
    since_start = log_decay.cumsum(-2)  # G, (B, H, N, C, 1|D)
    at_end = since_start[..., -1:, :]
    from_start, to_end = since_start.exp(), (at_end - since_start).exp()
    transfer = None
    if rewrite is None:
        ((weights,),) = score_all([q], [k], since_start)
        y, readout = weights @ v, q * from_start  # (B, H, N, C, E), (B, H, N, C, D)
        written = (k * to_end).mT @ v  # (B, H, N, D, E)
    else:
        read = split(rewrite.read)  # a
        own_write = None if rewrite.write is None else split(rewrite.write)  # b, where it is not the key
        keys = [k] if own_write is None else [own_write, k]
        # a row of scores with b and one with k, which are one where b is k: (B, H, N, C, C)
        (system, *read_k), (weights, *q_k) = score_all([read, q], keys, since_start)
        # U is linear in the state S: `fresh` + `from_state` S. Where b is k it stands for U + V, which is what k writes
        right = torch.cat([v if own_write is None else read_k[0].tril(-1) @ v, read * from_start], -1)
        # neither the diagonal of the system nor what is above it is looked at
        solved = torch.linalg.solve_triangular(-system, right, upper=False, unitriangular=True)
        fresh, from_state = solved.split([v.shape[-1], read.shape[-1]], -1)
        y, readout = weights @ fresh, q * from_start + weights @ from_state
        lasting = (keys[0] * to_end).mT
        written, transfer = lasting @ fresh, lasting @ from_state  # (B, H, N, D, E), (B, H, N, D, D)
        if own_write is not None:
            y, written = y + q_k[0] @ v, written + (k * to_end).mT @ v
    states, decay = [], at_end.exp().mT
    # the one loop over chunks: a state needs the one before, and nothing else does
    for n in range(written.shape[2]):
        states.append(state)
        update = written[:, :, n] if transfer is None else written[:, :, n] + transfer[:, :, n] @ state
        state = decay[:, :, n] * state + update
    y = y + readout @ torch.stack(states, 2)
    return y.flatten(2, 3)[:, :, :length], state


def score_all(queries: list[Tensor], keys: list[Tensor], since_start: Tensor) -> list[list[Tensor]]:
    """Return the scores (..., C, C) of each of the queries (a row) with each of the keys, 0 where a key is later."""
    if since_start.shape[-1] == 1:
        size = since_start.shape[-2]
        later = torch.ones(size, size, dtype=torch.bool, device=since_start.device).triu(1)
        decay = (since_start - since_start.mT).masked_fill(later, -torch.inf).exp()
        rows = []
        for q in queries:
            rows.append([(q @ k.mT) * decay for k in keys])
        return rows
    scores = score_decayed(torch.stack(queries, -2), torch.stack(keys, -2), since_start)
    return [list(row.unbind(-3)) for row in scores.unbind(-4)]


def refuse_bad_chunk(chunk: int) -> None:
    """Raise ValueError for a chunk that cannot be halved down to single tokens."""
    if chunk < 1 or chunk & (chunk - 1):
        raise ValueError(f"chunk={chunk} is not a power of 2; try 64")


def fit_chunk(length: int, chunk: int) -> int:
    """Return the tokens of a chunk: `chunk`, or less if the sequence is shorter, rounded up to a power of 2."""
    return min(chunk, 1 << (length - 1).bit_length())


def count_mixing_flops(
    length: int,
    chunk: int,
    key: int,
    value: int,
    *,
    by_feature: bool,
    heads: int,
    key_heads: int | None = None,
    rewrites: bool = False,
    own_write: bool = False,
) -> int:
    """Return the FLOPs of the products in chunks, the triangular system's included.

    key, value  features of a key and of a value
    by_feature  decays differ by feature of the key
    key_heads   heads that have queries and keys of their own; None is all
    rewrites    the state rewrites itself; own_write: by other vectors than the keys
    """
    size = fit_chunk(length, chunk)
    square, state = 2 * size * size, 2 * size * key * value
    # by feature the visible pairs alone, but for a token with itself and its neighbour, which are no matrix products
    scores = size * max(0, size - 2) * key if by_feature else square * key
    flops = square * value + 2 * state  # weights on values; the state written and read
    if rewrites:
        flops += scores + size * size * (value + key)  # the system and its solution
        flops += square * key + 2 * size * key * key + 2 * key * key * value  # what is linear in the state
    if own_write:
        flops += 2 * scores + 2 * square * value + state
    return -(-length // size) * (heads * flops + (heads if key_heads is None else key_heads) * scores)
