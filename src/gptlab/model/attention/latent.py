"""Multi-head latent attention: keys and values grow from one narrow latent (MLA, DeepSeek-V2, arXiv:2405.04434).

    c = norm(down x)        k_h = [k_up c ; k x], the second part turned and the same for all heads        v_h = v_up c

Only c and the turned k x are remembered: rank + rope_head numbers a token, whatever the heads. The rest of each key
stays unturned, since a rotation between k_up and c would tie the latent to its position.

Keys and values of all remembered tokens are grown anew at each step. The paper multiplies k_up into q and v_up into out
instead; weights would then meet activations outside their Linears, where no `change` would find them.
"""

import torch
from torch import Tensor, nn

from gptlab.model.attention import Attention, choose_scale
from gptlab.model.attention_kernels import attend
from gptlab.model.forward_pass import ForwardPass
from gptlab.model.kv_cache import RingCache
from gptlab.model.mask import Mask
from gptlab.model.shape import Shape


class LatentAttention(Attention):
    """Multi-head latent attention.

    rank       width of the latent; null is 4 heads' (the paper's), but at most half of all heads'
    rope_head  width of the part of a key that positions rotate; null is half a head's, made even
    bias       of the Linears, but for k_up, whose bias softmax would forget
    dropout    of the attention weights
    """

    scales_with_head = True
    supports_documents = True

    def __init__(
        self,
        shape: Shape,
        layer: int = 0,
        *,
        rank: int | None = None,
        rope_head: int | None = None,
        bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.layer, self.heads, self.head = layer, shape.heads, shape.head
        self.rank = min(4 * shape.head, -(-shape.heads * shape.head // 2)) if rank is None else rank
        self.rope_head = max(2, shape.head // 4 * 2) if rope_head is None else rope_head
        if self.rank < 1:
            raise ValueError(f"rank={rank} is not positive; null fits the heads")
        if self.rope_head < 1:
            raise ValueError(f"rope_head={rope_head} is not positive; null is half the head width")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout} is not in [0, 1); 0 drops nothing")
        self.mask, self.dropout = Mask(), dropout
        self.scale = choose_scale(shape, shape.head + self.rope_head)
        self.q = nn.Linear(shape.width, shape.heads * (shape.head + self.rope_head), bias)
        self.k = nn.Linear(shape.width, self.rope_head, bias)
        self.down = nn.Linear(shape.width, self.rank, bias)
        self.norm = nn.RMSNorm(self.rank, eps=1e-6)
        # a bias of keys adds the same number to all scores of a query, and softmax takes no notice
        self.k_up = nn.Linear(self.rank, shape.heads * shape.head, False)
        self.v_up = nn.Linear(self.rank, shape.heads * shape.head, bias)
        self.out = nn.Linear(shape.heads * shape.head, shape.width, bias)

    def forward(self, x: Tensor, forward_pass: ForwardPass, cache: RingCache | None = None) -> Tensor:
        q, q_rotated = self.q(x).unflatten(-1, (self.heads, -1)).split((self.head, self.rope_head), -1)
        q_rotated, k_rotated = forward_pass.position.rotate(
            q_rotated, self.k(x)[:, :, None], forward_pass.positions, self.layer
        )
        latent, key_positions = self.norm(self.down(x)), forward_pass.positions  # (B, T, rank)
        if cache is not None:
            key_positions, rows = cache.update(key_positions, latent=latent, k=k_rotated)
            latent, k_rotated = rows["latent"], rows["k"]
        # cached is the latent, not k and v: both are computed anew from it at every step
        k = self.k_up(latent).unflatten(-1, (self.heads, self.head))
        y = attend(
            torch.cat([q, q_rotated], -1),
            # one rotated key, shared by all heads
            torch.cat([k, k_rotated.expand(-1, -1, self.heads, -1)], -1),
            self.v_up(latent).unflatten(-1, (self.heads, self.head)),
            forward_pass.pass_mask(self.mask, key_positions),
            bias=forward_pass.position.bias(forward_pass.positions, key_positions, self.layer),
            scale=self.scale,
            dropout=self.dropout if self.training else 0.0,
        )
        return self.out(y.flatten(-2))

    def check_compatible(self, position, earlier) -> None:
        super().check_compatible(position, earlier)
        # a position refuses widths that it cannot rotate: asked here, before anything is computed
        empty = self.k.weight.new_empty(1, 0, 1, self.rope_head)
        try:
            position.rotate(empty, empty, torch.empty(1, 0, dtype=torch.long, device=empty.device), self.layer)
        except ValueError as error:
            raise ValueError(f"attention: rope_head={self.rope_head} cannot be turned: {error}") from error

    def new_cache(self, batch: int, length: int, like: Tensor) -> RingCache:
        return RingCache(batch, length, like, latent=(self.rank,), k=(1, self.rope_head))

    def pair_flops(self) -> int:
        # scores over both parts of a key, values of a head's width
        return 2 * self.heads * (self.head + self.rope_head + self.head)

    def pairs(self, length: int) -> int:
        return self.mask.pairs(length)
