"""Talking-heads attention: heads mix their scores, and then their weights (Shazeer 2020, arXiv:2003.02436).

    out(mix_weights(softmax(mix_scores(q k^T / sqrt(D)))) v)

mix_scores and mix_weights are Linears from heads to heads, without bias, met at every pair of positions. Both start as
the identity, so that at birth this is mha; x-transformers starts so too, where the paper draws them at random. All
heads have the same widths. Every score is written out: no fused kernel lets heads talk.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.model.attention import Attention
from gptlab.model.forward_pass import ForwardPass
from gptlab.model.kv_cache import RingCache
from gptlab.model.mask import Mask
from gptlab.model.shape import Shape


class TalkingHeads(Attention):
    """Talking-heads attention. A position's bias is added to the mixed scores.

    bias     of the Linears, but for the two that mix heads
    dropout  of the attention weights, before they are mixed
    """

    scales_with_head = True
    supports_documents = True

    def __init__(self, shape: Shape, layer: int = 0, *, bias: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout} is not in [0, 1); 0 drops nothing")
        self.layer, self.heads, self.head = layer, shape.heads, shape.head
        self.mask, self.dropout = Mask(), dropout
        self.scale = shape.head**-0.5 * shape.score_factor
        width = shape.heads * shape.head
        self.q, self.k, self.v = (nn.Linear(shape.width, width, bias) for _ in range(3))
        self.mix_scores, self.mix_weights = (nn.Linear(shape.heads, shape.heads, False) for _ in range(2))
        self.out = nn.Linear(width, shape.width, bias)

    def adjust_initial_weights(self) -> None:
        """Start both mixings at the identity, so that heads are independent."""
        nn.init.eye_(self.mix_scores.weight)
        nn.init.eye_(self.mix_weights.weight)

    def forward(self, x: Tensor, forward_pass: ForwardPass, cache: RingCache | None = None) -> Tensor:
        q, k, v = (part(x).unflatten(-1, (self.heads, self.head)) for part in (self.q, self.k, self.v))
        q, k = forward_pass.position.rotate(q, k, forward_pass.positions, self.layer)
        key_positions = forward_pass.positions
        if cache is not None:
            key_positions, rows = cache.update(key_positions, k=k, v=v)
            k, v = rows["k"], rows["v"]
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))  # (B, H, T|S, D)
        scores = talk(self.mix_scores, q * self.scale @ k.mT)  # (B, H, T, S)
        bias = forward_pass.position.bias(forward_pass.positions, key_positions, self.layer)
        scores = scores if bias is None else scores + bias
        visible = forward_pass.pass_mask(self.mask, key_positions).tensor()
        # a finite number, since a query that sees nothing has no softmax of -inf; its weights are set to 0
        weights = scores.masked_fill(~visible, torch.finfo(scores.dtype).min).softmax(-1) * visible
        weights = talk(self.mix_weights, F.dropout(weights, self.dropout, self.training))
        return self.out((weights @ v).transpose(1, 2).flatten(-2))

    def new_cache(self, batch: int, length: int, like: Tensor) -> RingCache:
        row = (self.heads, self.head)
        return RingCache(batch, length, like, k=row, v=row)

    def pair_flops(self) -> int:
        return 4 * self.heads * self.head + 4 * self.heads**2

    def pairs(self, length: int) -> int:
        return self.mask.pairs(length)

    def flops(self, length: int) -> int:
        # the decoder counts a Linear once for each token, which these two meet at pairs instead
        return self.pairs(length) * self.pair_flops() - 4 * self.heads**2 * length


def talk(mix: nn.Linear, x: Tensor) -> Tensor:
    """Return (B, H, T, S) with heads mixed at each pair of positions."""
    return mix(x.movedim(1, -1)).movedim(-1, 1)
