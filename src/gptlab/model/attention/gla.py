"""Gated linear attention: a state whose features forget at rates that the input sets (Yang 2023, arXiv:2312.06635).

    S_t = Diag(alpha_t) S_(t-1) + k_t v_t^T        y_t = S_t^T q_t / sqrt(key width)        out(swish(gate x) norm(y))
    log alpha = log sigmoid(decay x) / temperature, one for each feature of a key

decay is two Linears with `rank` features between them; norm is the RMS of each head. The temperature keeps alpha near
1: at birth a state halves in 16 tokens. Keys are half as wide as values. Order is in the recurrence, so a position's
rotation is not applied.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.model.attention import Attention
from gptlab.model.documents import forget_at_borders
from gptlab.model.forward_pass import ForwardPass
from gptlab.model.kv_cache import RecurrentState
from gptlab.model.recurrence.linear_state import count_mixing_flops, mix, refuse_bad_chunk
from gptlab.model.recurrence.parts import hide_padding
from gptlab.model.shape import Shape


class GatedLinearAttention(Attention):
    """Gated linear attention.

    key_head     width of a key; null is half a head's, rounded up, as published
    rank         features between the two Linears of the decay
    temperature  divides the logarithm of the decay
    chunk        tokens computed at once, a power of 2; it changes the time, not the result
    bias         of the Linears, but for the first of the decay; its second has one as published
    """

    supports = frozenset({"embed", "rotate"})
    scales_with_head = True
    supports_documents = True

    def __init__(
        self,
        shape: Shape,
        layer: int = 0,
        *,
        key_head: int | None = None,
        rank: int = 16,
        temperature: float = 16.0,
        chunk: int = 64,
        bias: bool = False,
    ) -> None:
        super().__init__()
        refuse_bad_chunk(chunk)
        key = -(-shape.head // 2) if key_head is None else key_head
        if rank < 1:
            raise ValueError(f"rank={rank} is not positive; try 16")
        if key < 1:
            raise ValueError(f"key_head={key_head} is not positive; try null")
        if temperature <= 0:
            raise ValueError(f"temperature={temperature} is not positive; try 16")
        self.heads, self.key, self.value = shape.heads, key, shape.head
        self.chunk, self.temperature = chunk, temperature
        keys, values = self.heads * self.key, self.heads * self.value
        self.q, self.k = nn.Linear(shape.width, keys, bias), nn.Linear(shape.width, keys, bias)
        self.v = nn.Linear(shape.width, values, bias)
        # the bias of the second lets a feature forget at a rate of its own, whatever the input
        self.decay_down, self.decay_up = nn.Linear(shape.width, rank, False), nn.Linear(rank, keys)
        self.gate = nn.Linear(shape.width, values, bias)
        self.norm = nn.RMSNorm(self.value, eps=1e-5)
        self.out = nn.Linear(values, shape.width, bias)

    def forward(self, x: Tensor, forward_pass: ForwardPass, cache: RecurrentState | None = None) -> Tensor:
        rows = (self.new_cache(len(x), 0, x) if cache is None else cache).rows
        decay = self.decay_up(self.decay_down(x))
        q, k, v, decay = (part.unflatten(-1, (self.heads, -1)) for part in (self.q(x), self.k(x), self.v(x), decay))
        # decays near 1 would round to 1 in bfloat16
        log_decay = F.logsigmoid(decay.to(rows["state"].dtype)) / self.temperature
        # a key of 0 writes nothing, and a log decay of 0 forgets nothing: padding leaves the state as it is
        k, log_decay = hide_padding(k, forward_pass), hide_padding(log_decay, forward_pass)
        log_decay = forget_at_borders(log_decay, forward_pass)
        y, state = mix(q * self.key**-0.5, k, v, log_decay, state=rows["state"], chunk=self.chunk)
        if cache is not None:
            cache.update(state=state)
        # norm is of each head's values, (..., H, value), before heads are joined
        return self.out(F.silu(self.gate(x)) * self.norm(y).flatten(-2))

    def new_cache(self, batch: int, length: int, like: Tensor) -> RecurrentState:
        return RecurrentState(batch, like, state=(self.heads, self.key, self.value))

    def flops(self, length: int) -> int:
        return count_mixing_flops(length, self.chunk, self.key, self.value, heads=self.heads, by_feature=True)
