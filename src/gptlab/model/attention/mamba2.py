"""Mamba-2: a state that all heads read and write alike and forget at their own rates (Dao 2024, arXiv:2405.21060).

    S_t = alpha S_(t-1) + k (step v)^T        y_t = S_t^T q_t + skip v_t        out(norm(swish(gate x) y))
    q, k, v = swish(conv(projections of x))        step = softplus(decay x + shift)        log alpha = -rate step

Published as C, B and x for q, k and v. The heads share q and k, of `state` features; v and the gate are `expand` times
as wide as the stream; norm is the RMS over all heads. The step is also how much a token writes, so that a head that
holds on to its past takes in little. Order is in the recurrence, so a position's rotation is not applied. Departures:
a head is as wide as model.head has it, where the paper has 64; the projections are four Linears, not one. The paper's
blocks have no MLP beside the mixer.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.model.attention import Attention
from gptlab.model.documents import forget_at_borders
from gptlab.model.forward_pass import ForwardPass
from gptlab.model.kv_cache import RecurrentState
from gptlab.model.recurrence.linear_state import count_mixing_flops, mix, refuse_bad_chunk
from gptlab.model.recurrence.parts import ShortConv, TimeScale, hide_padding
from gptlab.model.shape import Shape


class Mamba2(Attention):
    """Mamba-2.

    expand  width of the values of all heads, in widths of the stream
    state   features of the shared keys and queries: each head remembers so many vectors
    conv    tokens that the short convolution sees, its own the last
    chunk   tokens computed at once, a power of 2; it changes the time, not the result
    bias    of the Linears, but for the decay's; the convolution has one as published
    """

    supports = frozenset({"embed", "rotate"})
    scales_with_head = True
    supports_documents = True

    def __init__(
        self,
        shape: Shape,
        layer: int = 0,
        *,
        expand: int = 2,
        state: int = 128,
        conv: int = 4,
        chunk: int = 64,
        bias: bool = False,
    ) -> None:
        super().__init__()
        refuse_bad_chunk(chunk)
        if expand < 1:
            raise ValueError(f"expand={expand} leaves no value; 2 is the paper's")
        if state < 1:
            raise ValueError(f"state={state} remembers nothing; 128 is the paper's")
        self.head, self.state, self.chunk = shape.head, state, chunk
        self.heads = expand * shape.heads
        values = self.heads * self.head
        self.widths = [state, state, values]
        self.q, self.k, self.v = (nn.Linear(shape.width, width, bias) for width in self.widths)
        self.conv = ShortConv(sum(self.widths), conv, bias=True)
        self.decay = nn.Linear(shape.width, self.heads, False)  # its bias is the time scale's shift
        self.time_scale = TimeScale(self.heads, self.heads)
        self.skip = nn.Parameter(torch.ones(self.heads))
        self.gate = nn.Linear(shape.width, values, bias)
        self.norm = nn.RMSNorm(values, eps=1e-5)
        self.out = nn.Linear(values, shape.width, bias)

    def reset_parameters(self) -> None:
        """Start the skip of every head at 1."""
        nn.init.ones_(self.skip)

    def adjust_initial_weights(self) -> None:
        """Start the norm at 1/4, about what a gate that comes after a norm leaves of it.

        At 1 the branch would be six times as large as the embeddings that it is added to.
        """
        nn.init.constant_(self.norm.weight, 0.25)

    def forward(self, x: Tensor, forward_pass: ForwardPass, cache: RecurrentState | None = None) -> Tensor:
        rows = (self.new_cache(len(x), 0, x) if cache is None else cache).rows
        linears = (self.q, self.k, self.v)
        (q, k, v), conv = self.conv.project(x, linears, self.widths, forward_pass, past=rows["conv"])
        # one head's queries and keys, shared by all: (B, T, 1, D)
        q, k = q[:, :, None], hide_padding(k, forward_pass)[:, :, None]
        v = v.unflatten(-1, (self.heads, -1))  # (B, T, H, E)
        step, log_decay = self.time_scale(self.decay(x))  # (B, T, H, 1)
        log_decay = forget_at_borders(hide_padding(log_decay, forward_pass), forward_pass)
        # the step scales what enters, and by log_decay what is kept: y (B, T, H, E), state (B, H, D, E)
        y, state = mix(q, k, step * v, log_decay, state=rows["state"], chunk=self.chunk)
        if cache is not None:
            cache.update(state=state, conv=conv)
        # D of the paper: one number a head, past the state
        y = (y + self.skip[:, None] * v).flatten(-2)
        return self.out(self.norm(F.silu(self.gate(x)) * y))

    def new_cache(self, batch: int, length: int, like: Tensor) -> RecurrentState:
        return RecurrentState(batch, like, state=(self.heads, self.state, self.head), conv=self.conv.past_shape)

    def flops(self, length: int) -> int:
        return count_mixing_flops(
            length, self.chunk, self.state, self.head, by_feature=False, heads=self.heads, key_heads=1
        )
