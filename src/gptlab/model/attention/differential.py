"""Differential attention: one softmax less another takes off what both see as noise (Ye 2024, arXiv:2410.05258).

    out((1 - start) norm((softmax(q1 k1^T / sqrt(D)) - blend softmax(q2 k2^T / sqrt(D))) v))
    blend = exp(a1 b1) - exp(a2 b2) + start        start = 0.8 - 0.6 exp(-0.3 layer), layers counted from 0

Two neighbouring heads make a pair with one value of twice the width, so there are as many parameters as in mha. norm is
the RMS over each pair's 2 D features; 1 - start gives the gradient the size that it has in mha. a and b are four
vectors of a head's width, learned, shared by the heads of a layer.
"""

import math

import torch
from torch import Tensor, nn

from gptlab.model.attention import Attention
from gptlab.model.attention_kernels import attend
from gptlab.model.forward_pass import ForwardPass
from gptlab.model.kv_cache import RingCache
from gptlab.model.mask import Mask
from gptlab.model.shape import Shape


class DifferentialAttention(Attention):
    """Differential attention. Heads 2 i and 2 i + 1 are the two maps of pair i.

    bias     of the Linears
    dropout  of the attention weights

    Both maps have the position bias of head 2 i + 1, so that what is subtracted looks as far as what it is subtracted
    from; ALiBi's slopes are then those of heads / 2 heads.
    """

    supports_documents = True

    def __init__(self, shape: Shape, layer: int = 0, *, bias: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        if shape.heads % 2:
            raise ValueError(f"model.heads={shape.heads} is odd, but differential attention pairs heads; make it even")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout} is not in [0, 1); 0 drops nothing")
        self.layer, self.heads, self.head = layer, shape.heads, shape.head
        self.mask, self.dropout = Mask(), dropout
        self.start = 0.8 - 0.6 * math.exp(-0.3 * layer)
        self.q = nn.Linear(shape.width, shape.heads * shape.head, bias)
        self.k = nn.Linear(shape.width, shape.heads * shape.head, bias)
        self.v = nn.Linear(shape.width, shape.heads * shape.head, bias)
        self.out = nn.Linear(shape.heads * shape.head, shape.width, bias)
        # one weight for all pairs, as in the paper's code
        self.norm = nn.RMSNorm(2 * shape.head, eps=1e-5)
        self.a1, self.b1, self.a2, self.b2 = (nn.Parameter(torch.empty(shape.head)) for _ in range(4))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the first values of the four vectors."""
        for vector in (self.a1, self.b1, self.a2, self.b2):
            nn.init.normal_(vector, 0.0, 0.1)

    def forward(self, x: Tensor, forward_pass: ForwardPass, cache: RingCache | None = None) -> Tensor:
        q, k = (projection(x).unflatten(-1, (self.heads, self.head)) for projection in (self.q, self.k))
        v = self.v(x).unflatten(-1, (self.heads // 2, 2 * self.head))
        q, k = forward_pass.position.rotate(q, k, forward_pass.positions, self.layer)
        key_positions = forward_pass.positions
        if cache is not None:
            key_positions, rows = cache.update(key_positions, k=k, v=v)
            k, v = rows["k"], rows["v"]
        bias = forward_pass.position.bias(forward_pass.positions, key_positions, self.layer)
        y = attend(
            q,
            k,
            # both maps of a pair read the same value, of twice the width
            v.repeat_interleave(2, 2),
            forward_pass.pass_mask(self.mask, key_positions),
            bias=None if bias is None else bias[:, 1::2].repeat_interleave(2, 1),
            dropout=self.dropout if self.training else 0.0,
        )
        first_map, second_map = y.unflatten(2, (-1, 2)).unbind(3)  # (B, T, H / 2, 2 D) each
        return self.out(((1 - self.start) * self.norm(first_map - self.blend() * second_map)).flatten(-2))

    def blend(self) -> Tensor:
        """Return the share of the second map that is subtracted, a scalar."""
        return (self.a1 * self.b1).sum().exp() - (self.a2 * self.b2).sum().exp() + self.start

    def new_cache(self, batch: int, length: int, like: Tensor) -> RingCache:
        return RingCache(batch, length, like, k=(self.heads, self.head), v=(self.heads // 2, 2 * self.head))

    def pair_flops(self) -> int:
        # scores over D features, values of 2 D
        return 2 * self.heads * (self.head + 2 * self.head)

    def pairs(self, length: int) -> int:
        return self.mask.pairs(length)
