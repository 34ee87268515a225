"""Kimi Delta Attention: Gated DeltaNet whose features forget at their own rates (Kimi Linear, arXiv:2510.26692).

    S_t = (1 - beta k k^T) Diag(alpha) S_(t-1) + beta k v^T        y_t = S_t^T q_t / sqrt(head width)
    q, k, v = swish(conv(projections of x))        q and k of length 1        out(sigmoid(gate x) norm(y))
    beta = sigmoid(beta x)        log alpha = -rate softplus(decay x + shift), one for each feature of a key

decay and gate are each two Linears with a head's width between them; norm is the RMS of each head; a head's features
share a rate. Order is in the recurrence, so a position's rotation is not applied, as Kimi Linear has none.
"""

from torch import Tensor, nn

from gptlab.model.attention import Attention
from gptlab.model.forward_pass import ForwardPass
from gptlab.model.kv_cache import RecurrentState
from gptlab.model.recurrence.linear_state import count_mixing_flops, refuse_bad_chunk
from gptlab.model.recurrence.parts import ShortConv, TimeScale, apply_delta_rule
from gptlab.model.shape import Shape


class KimiDeltaAttention(Attention):
    """Kimi Delta Attention.

    allow_neg_eigval  let beta be up to 2, so that a state can flip its sign
    conv              tokens that the short convolution sees, its own the last
    chunk             tokens computed at once, a power of 2; it changes the time, not the result
    bias              of the Linears, but for those of the decay; the gate has one as published
    """

    supports = frozenset({"embed", "rotate"})
    scales_with_head = True
    supports_documents = True

    def __init__(
        self,
        shape: Shape,
        layer: int = 0,
        *,
        allow_neg_eigval: bool = False,
        conv: int = 4,
        chunk: int = 64,
        bias: bool = False,
    ) -> None:
        super().__init__()
        refuse_bad_chunk(chunk)
        self.heads, self.head, self.chunk = shape.heads, shape.head, chunk
        self.greatest_beta = 2 if allow_neg_eigval else 1
        width = self.heads * self.head
        self.q, self.k, self.v = (nn.Linear(shape.width, width, bias) for _ in range(3))
        self.conv = ShortConv(3 * width, conv)
        self.beta = nn.Linear(shape.width, self.heads, bias)
        self.decay_down, self.decay_up = nn.Linear(shape.width, self.head, False), nn.Linear(self.head, width, False)
        self.time_scale = TimeScale(self.heads, width)
        self.gate_down, self.gate_up = nn.Linear(shape.width, self.head, False), nn.Linear(self.head, width)
        self.norm = nn.RMSNorm(self.head, eps=1e-5)
        self.out = nn.Linear(width, shape.width, bias)

    def forward(self, x: Tensor, forward_pass: ForwardPass, cache: RecurrentState | None = None) -> Tensor:
        rows = (self.new_cache(len(x), 0, x) if cache is None else cache).rows
        linears, widths = (self.q, self.k, self.v), [self.heads * self.head] * 3
        projected, conv = self.conv.project(x, linears, widths, forward_pass, past=rows["conv"])
        q, k, v = (part.unflatten(-1, (self.heads, -1)) for part in projected)  # (B, T, H, D)
        # as in Gated DeltaNet; what differs is one decay a feature instead of one a head
        beta = self.greatest_beta * self.beta(x).sigmoid()[..., None]  # (B, T, H, 1)
        _, log_decay = self.time_scale(self.decay_up(self.decay_down(x)))  # (B, T, H, D)
        y, state = apply_delta_rule(
            q, k, v, beta, log_decay=log_decay, forward_pass=forward_pass, state=rows["state"], chunk=self.chunk
        )
        if cache is not None:
            cache.update(state=state, conv=conv)
        # sigmoid, not silu as in Gated DeltaNet: the paper's gate only closes
        return self.out(self.gate_up(self.gate_down(x)).sigmoid() * self.norm(y).flatten(-2))

    def new_cache(self, batch: int, length: int, like: Tensor) -> RecurrentState:
        return RecurrentState(batch, like, state=(self.heads, self.head, self.head), conv=self.conv.past_shape)

    def flops(self, length: int) -> int:
        return count_mixing_flops(
            length, self.chunk, self.head, self.head, heads=self.heads, by_feature=True, rewrites=True
        )
