"""Softmax attention over shared key and value heads: out(softmax(scale q k^T) v).

mha  kv_heads = heads             Vaswani 2017, arXiv:1706.03762
mqa  kv_heads = 1                 Shazeer 2019, arXiv:1911.02150
gqa  kv_heads between             Ainslie 2023, arXiv:2305.13245: query head h reads kv head floor(h kv_heads / heads)
swa  the last `window` keys only  Mistral, arXiv:2310.06825: the query's own key is counted
"""

from torch import Tensor, nn

from gptlab.attend import attend
from gptlab.attention import Attention
from gptlab.cache import Ring
from gptlab.flow import Flow
from gptlab.mask import Mask
from gptlab.shape import Shape, divisors


class SoftmaxAttention(Attention):
    """kv_heads: null is one for each head. scale: null is 1 / sqrt(head width). qk_norm: RMS over each head, before
    rotation (Qwen3). dropout acts on the attention weights."""

    def __init__(
        self,
        shape: Shape,
        layer: int = 0,
        *,
        kv_heads: int | None = None,
        window: int | None = None,
        qk_norm: bool = False,
        scale: float | None = None,
        bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        kv_heads = shape.heads if kv_heads is None else kv_heads
        if kv_heads < 1 or shape.heads % kv_heads:
            fits = " or ".join(", ".join(map(str, divisors(shape.heads))).rsplit(", ", 1))
            raise ValueError(f"kv_heads={kv_heads} does not divide model.heads={shape.heads}; try {fits}")
        if window is not None and window < 1:
            raise ValueError(f"window={window} sees nothing; give a number of keys > 0, or null for all of them")
        if scale is not None and scale <= 0:
            raise ValueError(f"scale={scale} is not positive; null is 1 / sqrt(head width)")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout} is not in [0, 1); 0 drops nothing")
        self.layer, self.heads, self.kv_heads, self.head = layer, shape.heads, kv_heads, shape.head
        self.mask, self.scale, self.dropout = Mask(window), scale, dropout
        self.q = nn.Linear(shape.width, shape.heads * shape.head, bias)
        self.k = nn.Linear(shape.width, kv_heads * shape.head, bias)
        self.v = nn.Linear(shape.width, kv_heads * shape.head, bias)
        self.out = nn.Linear(shape.heads * shape.head, shape.width, bias)
        self.q_norm = nn.RMSNorm(shape.head, eps=1e-6) if qk_norm else nn.Identity()
        self.k_norm = nn.RMSNorm(shape.head, eps=1e-6) if qk_norm else nn.Identity()

    def forward(self, x: Tensor, flow: Flow, memory: Ring | None = None) -> Tensor:
        q = self.q_norm(self.q(x).unflatten(-1, (self.heads, self.head)))
        k = self.k_norm(self.k(x).unflatten(-1, (self.kv_heads, self.head)))
        v = self.v(x).unflatten(-1, (self.kv_heads, self.head))
        q, k = flow.position.rotate(q, k, flow.at, self.layer)
        at = flow.at
        if memory is not None:
            at, rows = memory.append(at, k=k, v=v)
            k, v = rows["k"], rows["v"]
        y = attend(
            q,
            k,
            v,
            flow.sight(self.mask, at),
            bias=flow.position.bias(flow.at, at, self.layer),
            scale=self.scale,
            dropout=self.dropout if self.training else 0.0,
        )
        return self.out(y.flatten(-2))

    def memory(self, batch: int, length: int, like: Tensor) -> Ring:
        row = (self.kv_heads, self.head)
        return Ring(batch, min(length, self.mask.reach or length), like, k=row, v=row)

    def pair_flops(self) -> int:
        return 4 * self.heads * self.head

    def pairs(self, length: int) -> int:
        return self.mask.pairs(length)
