"""Mixture of block attention: a query reads its own block and the past ones that it likes (MoBA, arXiv:2502.13189).

    score of a past block = q . mean of its keys        softmax over the keys of those chosen and of the own

A block is `block` tokens. Each head of each query chooses for itself. The choice has no gradient; it says only where
the softmax looks. This is the reference form: all scores are computed, and those of blocks that were not chosen are
hidden. Its promised FLOPs are those of the chosen ones.
"""

import torch
from torch import Tensor, nn

from gptlab.model.attention import Attention, choose_scale
from gptlab.model.attention_kernels import attend
from gptlab.model.forward_pass import ForwardPass
from gptlab.model.kv_cache import RingCache
from gptlab.model.mask import Mask
from gptlab.model.shape import Shape


class BlockMixture(Attention):
    """Mixture of block attention.

    block    tokens of a block; null is a sixteenth of the context (the paper: 512 of 8192)
    top_k    blocks that a query reads, its own one of them
    bias     of the Linears
    dropout  of the attention weights
    """

    scales_with_head = True

    def __init__(
        self,
        shape: Shape,
        layer: int = 0,
        *,
        block: int | None = None,
        top_k: int = 3,
        bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.block = max(1, shape.context // 16) if block is None else block
        if self.block < 1:
            raise ValueError(f"block={block} holds nothing; give a number of tokens > 0")
        if top_k < 1:
            raise ValueError(f"top_k={top_k} reads nothing; 1 is the query's own block")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout} is not in [0, 1); 0 drops nothing")
        self.layer, self.heads, self.head, self.top_k = layer, shape.heads, shape.head, top_k
        self.mask, self.dropout, self.scale = Mask(), dropout, choose_scale(shape)
        width = shape.heads * shape.head
        self.q, self.k, self.v = (nn.Linear(shape.width, width, bias) for _ in range(3))
        self.out = nn.Linear(width, shape.width, bias)

    def forward(self, x: Tensor, forward_pass: ForwardPass, cache: RingCache | None = None) -> Tensor:
        q, k, v = (part(x).unflatten(-1, (self.heads, self.head)) for part in (self.q, self.k, self.v))
        q, k = forward_pass.position.rotate(q, k, forward_pass.positions, self.layer)
        key_positions = forward_pass.positions
        if cache is not None:
            key_positions, rows = cache.update(key_positions, k=k, v=v)
            k, v = rows["k"], rows["v"]  # (B, S, H, D)
        with torch.no_grad():
            chosen = self.choose_keys(q, k, forward_pass.positions, key_positions)
            hidden = torch.zeros_like(chosen, dtype=q.dtype).masked_fill(~chosen, -torch.inf)  # (B, H, T, S)
        bias = forward_pass.position.bias(forward_pass.positions, key_positions, self.layer)
        y = attend(
            q,
            k,
            v,
            forward_pass.pass_mask(self.mask, key_positions),
            bias=hidden if bias is None else hidden + bias,
            scale=self.scale,
            dropout=self.dropout if self.training else 0.0,
        )
        return self.out(y.flatten(-2))

    def choose_keys(self, q: Tensor, k: Tensor, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        """Return bool (B, H, T, S), true for the keys of chosen blocks; their later ones are the mask's matter."""
        # the keys at hand span so many blocks at most, so that their number modulo it names a place for each
        places = -(-k.shape[1] // self.block) + 1
        batch = len(k)
        blocks = (key_positions.clamp(min=0) // self.block).expand(batch, -1)  # (B, S)
        slots, is_key = blocks % places, (key_positions >= 0).expand(batch, -1)
        # the mean of each block's keys, without padding and empty slots of the cache
        counts = q.new_zeros(batch, places).scatter_add(1, slots, is_key.to(q.dtype))
        no_sums, index = torch.zeros_like(k[:, :1]).expand(-1, places, -1, -1), slots[..., None, None].expand_as(k)
        sums = no_sums.scatter_add(1, index, k * is_key[..., None, None])
        means = sums / counts.clamp(min=1)[..., None, None]  # (B, places, H, D)
        scores = q.transpose(1, 2) @ means.permute(0, 2, 3, 1)  # (B, H, T, places)
        # the number of the block at each place, -1 where there is none
        no_blocks = torch.full_like(counts, -1, dtype=torch.long)
        block_at = no_blocks.scatter_reduce(1, slots, torch.where(is_key, blocks, -1), "amax")[:, None, None]
        own = (query_positions.clamp(min=0) // self.block)[:, None, :, None]  # (B|1, 1, T, 1)
        is_past = (block_at < own) & (block_at >= 0)
        ranked = scores.masked_fill(~is_past, -torch.inf).topk(min(self.top_k - 1, places), -1)
        # where there are fewer past blocks than that, others of -inf are ranked too
        past = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, ranked.indices, ranked.values > -torch.inf)
        chosen = past | (block_at == own)
        return chosen.gather(-1, slots[:, None, None].expand(-1, *chosen.shape[1:3], -1))

    def new_cache(self, batch: int, length: int, like: Tensor) -> RingCache:
        row = (self.heads, self.head)
        return RingCache(batch, length, like, k=row, v=row)

    def pair_flops(self) -> int:
        return 4 * self.heads * self.head

    def pairs(self, length: int) -> int:
        """Count the pairs that are chosen: a triangle in the own block, whole past ones."""
        pairs = 0
        for place in range(length):
            past_blocks = min(self.top_k - 1, place // self.block)
            pairs += place % self.block + 1 + past_blocks * self.block
        return pairs

    def flops(self, length: int) -> int:
        places = -(-length // self.block) + 1
        return self.pairs(length) * self.pair_flops() + 2 * self.heads * self.head * length * places
