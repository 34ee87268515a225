"""Gated DeltaNet: a state that decays, and in which a key's value is replaced (Yang 2024, arXiv:2412.06464).

    S_t = alpha S_(t-1) (1 - beta k k^T) + beta v k^T        y_t = S_t q_t / sqrt(key width)
    q, k, v = swish(conv(projections of x))        q and k of length 1        out(swish(gate x) norm(y))
    beta = sigmoid(beta x)        log alpha = -rate softplus(decay x + shift), one each for a head

norm is the RMS of each head. A plain sum of v k^T keeps every value that a key ever had; the delta rule takes the old
one out. With beta up to 1 the state's eigenvalues are in 0 .. 1; up to 2 they reach -1, and a state can count modulo 2
(Grazzi 2024, arXiv:2411.12537). Order is in the recurrence, so a position's rotation is not applied. Departure: values
are as wide as keys and both fill the width; the published layer has expand_v=2 on three quarters of the width.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.model.attention import Attention
from gptlab.model.forward_pass import ForwardPass
from gptlab.model.kv_cache import RecurrentState
from gptlab.model.recurrence.linear_state import count_mixing_flops, refuse_bad_chunk
from gptlab.model.recurrence.parts import ShortConv, TimeScale, apply_delta_rule
from gptlab.model.shape import Shape


class GatedDeltaNet(Attention):
    """Gated DeltaNet.

    expand_v          width of a value in widths of a key
    allow_neg_eigval  let beta be up to 2, so that a state can flip its sign
    conv              tokens that the short convolution sees, its own the last
    chunk             tokens computed at once, a power of 2; it changes the time, not the result
    bias              of the Linears
    """

    supports = frozenset({"embed", "rotate"})
    scales_with_head = True
    supports_documents = True

    def __init__(
        self,
        shape: Shape,
        layer: int = 0,
        *,
        expand_v: int = 1,
        allow_neg_eigval: bool = False,
        conv: int = 4,
        chunk: int = 64,
        bias: bool = False,
    ) -> None:
        super().__init__()
        refuse_bad_chunk(chunk)
        if expand_v < 1:
            raise ValueError(f"expand_v={expand_v} leaves no value; 1 is as wide as a key")
        self.heads, self.key, self.value = shape.heads, shape.head, expand_v * shape.head
        self.chunk, self.greatest_beta = chunk, 2 if allow_neg_eigval else 1
        self.widths = [self.heads * self.key, self.heads * self.key, self.heads * self.value]
        self.q, self.k, self.v = (nn.Linear(shape.width, width, bias) for width in self.widths)
        self.conv = ShortConv(sum(self.widths), conv)
        self.beta = nn.Linear(shape.width, self.heads, bias)
        self.decay = nn.Linear(shape.width, self.heads, False)  # its bias is the time scale's shift
        self.time_scale = TimeScale(self.heads, self.heads, least_rate=1e-3)
        self.gate = nn.Linear(shape.width, self.heads * self.value, bias)
        self.norm = nn.RMSNorm(self.value, eps=1e-5)
        self.out = nn.Linear(self.heads * self.value, shape.width, bias)

    def forward(self, x: Tensor, forward_pass: ForwardPass, cache: RecurrentState | None = None) -> Tensor:
        rows = (self.new_cache(len(x), 0, x) if cache is None else cache).rows
        linears = (self.q, self.k, self.v)
        projected, conv = self.conv.project(x, linears, self.widths, forward_pass, past=rows["conv"])
        q, k, v = (part.unflatten(-1, (self.heads, -1)) for part in projected)  # (B, T, H, D)
        # up to 1 a write replaces what the key held; up to 2 it may turn its sign
        beta = self.greatest_beta * self.beta(x).sigmoid()[..., None]  # (B, T, H, 1)
        _, log_decay = self.time_scale(self.decay(x))
        y, state = apply_delta_rule(
            q, k, v, beta, log_decay=log_decay, forward_pass=forward_pass, state=rows["state"], chunk=self.chunk
        )
        if cache is not None:
            cache.update(state=state, conv=conv)
        return self.out(F.silu(self.gate(x)) * self.norm(y).flatten(-2))

    def new_cache(self, batch: int, length: int, like: Tensor) -> RecurrentState:
        return RecurrentState(batch, like, state=(self.heads, self.key, self.value), conv=self.conv.past_shape)

    def flops(self, length: int) -> int:
        return count_mixing_flops(
            length, self.chunk, self.key, self.value, heads=self.heads, by_feature=False, rewrites=True
        )
