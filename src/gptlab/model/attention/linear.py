"""Linear attention with decay: a state instead of a softmax (RetNet, arXiv:2307.08621).

    S_t = decay S_(t-1) + k_t v_t^T        y_t = S_t^T q_t / sqrt(head width)        out(swish(gate x) norm(y))

The same in chunks, as it is computed here: within a chunk all pairs at once, each weighed by decay^(distance); between
chunks the state. A chunk of one token is the recurrence, a chunk of the whole sequence is the quadratic form. norm is
the RMS of each head, without weights; gate is a Linear as wide as y. The state, head x head numbers for each head, is
all that is remembered. Departures: RetNet's normalisation of scores is left out, which the norm cancels; and where
expand_v is 1 (attention=linear) values are as wide as keys, not twice as wide as RetNet's (attention=retention) are.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.model.attention import Attention
from gptlab.model.documents import forget_at_borders
from gptlab.model.forward_pass import ForwardPass
from gptlab.model.kv_cache import RecurrentState
from gptlab.model.recurrence.linear_state import count_mixing_flops, mix
from gptlab.model.recurrence.parts import hide_padding
from gptlab.model.shape import Shape


class LinearAttention(Attention):
    """Linear attention with decay. Padding enters no state and does not make it decay.

    gate      whether the output is gated, as published; false lets the norm write alone
    expand_v  width of a value in widths of a key
    decay     null is 1 - 2^(-5 - h) for head h = 0, 1, ..; a number is for all heads, and 1 forgets nothing
    chunk     tokens computed at once; it changes the time, not the result
    bias      of the Linears
    """

    supports = frozenset({"embed", "rotate"})
    scales_with_head = True
    supports_documents = True

    def __init__(
        self,
        shape: Shape,
        layer: int = 0,
        *,
        gate: bool = True,
        expand_v: int = 1,
        decay: float | None = None,
        chunk: int = 64,
        bias: bool = False,
    ) -> None:
        super().__init__()
        if decay is not None and not 0 < decay <= 1:
            raise ValueError(f"decay={decay} is not in (0, 1]; 1 forgets nothing, null gives each head its own")
        if chunk < 1:
            raise ValueError(f"chunk={chunk} is not positive; 1 goes token by token")
        if expand_v < 1:
            raise ValueError(f"expand_v={expand_v} leaves no value; 1 is as wide as a key")
        self.layer, self.heads, self.head, self.chunk = layer, shape.heads, shape.head, chunk
        self.value = expand_v * shape.head
        self.decay = decay
        self.q = nn.Linear(shape.width, shape.heads * shape.head, bias)
        self.k = nn.Linear(shape.width, shape.heads * shape.head, bias)
        self.v = nn.Linear(shape.width, shape.heads * self.value, bias)
        self.gate = nn.Linear(shape.width, shape.heads * self.value, bias) if gate else None
        self.norm = nn.RMSNorm(self.value, eps=1e-6, elementwise_affine=False)
        self.out = nn.Linear(shape.heads * self.value, shape.width, bias)

    def forward(self, x: Tensor, forward_pass: ForwardPass, cache: RecurrentState | None = None) -> Tensor:
        q, k, v = (projection(x).unflatten(-1, (self.heads, -1)) for projection in (self.q, self.k, self.v))
        # a rotation is linear, so the scores may be scaled before it: (B, T, H, D) are fewer than pairs
        q, k = forward_pass.position.rotate(q * self.head**-0.5, k, forward_pass.positions, self.layer)
        state = self.new_cache(len(x), 0, x).rows["state"] if cache is None else cache.rows["state"]
        # one decay for each head, (B|1, T, H, 1); padding has none
        log_decay = self.compute_log_decay(state).view(1, 1, -1, 1).expand(1, x.shape[1], -1, -1)
        log_decay = hide_padding(log_decay, forward_pass)
        log_decay = forget_at_borders(log_decay, forward_pass)
        y, state = mix(q, hide_padding(k, forward_pass), v, log_decay, state=state, chunk=self.chunk)
        if cache is not None:
            cache.update(state=state)
        # (B, T, H, value): each head is normed by itself, whose size would else grow with what it has read
        y = self.norm(y).flatten(-2)
        return self.out(y if self.gate is None else F.silu(self.gate(x)) * y)

    def compute_log_decay(self, like: Tensor) -> Tensor:
        """Return the log decay of each head, (H,); made on the device, to which a list would be copied."""
        if self.decay is not None:
            return like.new_full((self.heads,), self.decay).log()
        heads = torch.arange(self.heads, device=like.device, dtype=like.dtype)
        return (1 - torch.exp2(-5 - heads)).log()

    def new_cache(self, batch: int, length: int, like: Tensor) -> RecurrentState:
        return RecurrentState(batch, like, state=(self.heads, self.head, self.value))

    def flops(self, length: int) -> int:
        return count_mixing_flops(length, self.chunk, self.head, self.value, heads=self.heads, by_feature=False)
