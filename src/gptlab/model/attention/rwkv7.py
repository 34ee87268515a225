"""RWKV-7's time mixing: a state that decays and rewrites itself, feature by feature (Peng 2025, arXiv:2503.14456).

    S_t = (Diag(w) - c (a c)^T)^T S_(t-1) + k v^T        y_t = S_t^T q_t + sum(q bonus k) v        out(gate norm(y))
    w = exp(-e^(-1/2) sigmoid(decay))        a = sigmoid(rate)        c = key_scale k of length 1, head by head
    k = k (1 + (a - 1) key_rate)        v = v + sigmoid(blend) (v of the first layer - v)

decay, rate, blend and gate are each two thin Linears of the input (tanh between them in decay, a sigmoid in gate) and a
vector. What each of q, decay, k, v, rate and gate reads is a blend of a token with the one before it, feature by
feature. norm is a group norm with a group for each head. Order is in the recurrence, so a position's rotation is not
applied. First values of all vectors are those of RWKV-LM's v7 as flash-linear-attention 0.6 has them; departures: the
Linears start by `init`, but for the first of each thin pair, which is 0 as published; the thin ones are at most a
quarter of the width; the block's MLP is `mlp`, without a blend of its own.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.model.attention import Attention
from gptlab.model.documents import forget_at_borders, hide_other_documents
from gptlab.model.forward_pass import ForwardPass
from gptlab.model.kv_cache import RecurrentState
from gptlab.model.recurrence.linear_state import Rewrite, count_mixing_flops, mix, refuse_bad_chunk
from gptlab.model.recurrence.parts import hide_padding
from gptlab.model.shape import Shape

LOG_DECAY_SCALE = math.exp(-0.5)
SHIFT_POWERS = {"q": 0.2, "decay": 0.9, "k": 0.7, "v": 0.7, "rate": 0.9, "gate": 0.2}
"""What reads a blend of two tokens, and how its share of the one before rises over the features at birth."""


class RWKV7(Attention):
    """RWKV-7's time mixing.

    chunk  tokens computed at once, a power of 2; it changes the time, not the result
    bias   of the Linears q, k, v and out
    """

    supports = frozenset({"embed", "rotate"})
    supports_documents = True

    def __init__(self, shape: Shape, layer: int = 0, *, chunk: int = 16, bias: bool = False) -> None:
        super().__init__()
        refuse_bad_chunk(chunk)
        self.layer, self.layers, self.chunk = layer, shape.layers, chunk
        self.heads, self.head, self.stream = shape.heads, shape.head, shape.width
        width = self.heads * self.head
        self.q, self.k, self.v = (nn.Linear(shape.width, width, bias) for _ in range(3))
        self.out = nn.Linear(width, shape.width, bias)
        names = ["decay", "rate", "gate", *(["blend"] if layer else [])]
        ranks = choose_ranks(shape.width, shape.head)
        self.down = nn.ModuleDict({name: nn.Linear(shape.width, ranks[name], False) for name in names})
        self.up = nn.ModuleDict({name: nn.Linear(ranks[name], width, False) for name in names})
        # vectors, of one axis even where they are tables, so that weight decay leaves them alone
        self.shift = nn.Parameter(torch.empty(len(SHIFT_POWERS) * shape.width))
        self.decay, self.rate = nn.Parameter(torch.empty(width)), nn.Parameter(torch.empty(width))
        self.blend = nn.Parameter(torch.empty(width)) if layer else None
        self.key_scale, self.key_rate = nn.Parameter(torch.empty(width)), nn.Parameter(torch.empty(width))
        self.bonus = nn.Parameter(torch.empty(width))
        self.norm = nn.GroupNorm(self.heads, width, eps=1e-5 * self.head)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Give the vectors their first values: ramps over the features, alike for every seed."""
        width = self.heads * self.head
        depth = self.layer / max(1, self.layers - 1)
        place = torch.arange(self.stream) / self.stream
        shares = [1 - place ** (power * (1 - self.layer / self.layers)) for power in SHIFT_POWERS.values()]
        self.shift.copy_(torch.cat(shares))
        ramp = torch.arange(width) / max(1, width - 1)  # 0 .. 1
        inside = torch.linspace(-1, 1, self.head).repeat(self.heads)
        inside = inside * inside.abs()  # the same within each head, steeper at its ends
        self.decay.copy_(-5.5 + 6 * ramp ** (1 + depth**0.3) + 2.5 * inside)
        self.rate.copy_(-0.19 + 0.3 * inside + 0.4 * (ramp - 0.5))
        if self.blend is not None:
            self.blend.copy_(0.73 - 0.4 * (ramp - 0.5))
        self.key_scale.copy_(0.71 - 0.1 * (ramp - 0.5))
        self.key_rate.fill_(1.02)
        self.bonus.fill_(-0.04)

    def adjust_initial_weights(self) -> None:
        """Start the thin pairs at 0, and the norm lower in lower layers."""
        for linear in self.down.values():
            nn.init.zeros_(linear.get_parameter("weight"))
        nn.init.constant_(self.norm.weight, ((self.layer + 1) / self.layers) ** 0.7)

    def forward(self, x: Tensor, forward_pass: ForwardPass, cache: RecurrentState | None = None) -> Tensor:
        rows = (self.new_cache(len(x), 0, x) if cache is None else cache).rows
        x = hide_padding(x, forward_pass)
        before = torch.cat([rows["past"].to(x.dtype), x[:, :-1]], 1)  # the token before each
        before = hide_other_documents(before, forward_pass, 1)
        shares = self.shift.unflatten(0, (len(SHIFT_POWERS), -1)).unbind()
        # x + share (before - x), in the order of SHIFT_POWERS, (B, T, width) each
        x_q, x_decay, x_k, x_v, x_rate, x_gate = (torch.addcmul(x, share, before - x) for share in shares)
        log_decay = -LOG_DECAY_SCALE * (self.decay + self.up["decay"](self.down["decay"](x_decay).tanh())).sigmoid()
        rate = (self.rate + self.up["rate"](self.down["rate"](x_rate))).sigmoid()
        gate = self.up["gate"](self.down["gate"](x_gate).sigmoid())
        v = self.v(x_v)
        if self.blend is not None:
            share = (self.blend + self.up["blend"](self.down["blend"](x_v))).sigmoid()
            v = torch.lerp(v, forward_pass.shared["first value of rwkv7"].to(v.dtype), share.to(v.dtype))
        else:
            # the first layer: all later ones blend its values in
            forward_pass.shared["first value of rwkv7"] = v
        q, k = self.q(x_q), self.k(x_k)
        scaled_k = k * self.key_scale
        k = k * (1 + (rate - 1) * self.key_rate)
        in_heads = (part.unflatten(-1, (self.heads, -1)) for part in (q, k, scaled_k, v, rate, log_decay))
        q, k, scaled_k, v, rate, log_decay = in_heads  # (B, T, H, D)
        erased = F.normalize(scaled_k, dim=-1)  # c
        # what is erased is read before the state decays, and `mix` reads after
        rewrite = Rewrite(-erased * (-log_decay).exp(), hide_padding(erased * rate, forward_pass))
        k = hide_padding(k, forward_pass)
        log_decay = forget_at_borders(hide_padding(log_decay, forward_pass), forward_pass)
        y, state = mix(q, k, v, log_decay, state=rows["state"], chunk=self.chunk, rewrite=rewrite)
        if cache is not None:
            cache.update(state=state, past=x[:, -1:])
        # a group norm takes (rows, width)
        normed = self.norm(y.flatten(0, 1).flatten(-2)).view(*y.shape[:2], -1)
        # what the current token says to itself, past the state and its norm
        bonus = (q * self.bonus.view(self.heads, -1) * k).sum(-1, keepdim=True) * v
        return self.out(gate * (normed + bonus.flatten(-2)))

    def check_compatible(self, position, earlier: Sequence[Attention]) -> None:
        super().check_compatible(position, earlier)
        if self.layer and not isinstance(earlier[0], RWKV7):
            raise ValueError(
                f"attention: rwkv7 in layer {self.layer} blends in the values of layer 0, which is "
                f"{type(earlier[0]).__name__}; let the layout begin with it"
            )

    def new_cache(self, batch: int, length: int, like: Tensor) -> RecurrentState:
        return RecurrentState(batch, like, state=(self.heads, self.head, self.head), past=(1, self.stream))

    def flops(self, length: int) -> int:
        sizes = length, self.chunk, self.head, self.head
        return count_mixing_flops(*sizes, heads=self.heads, by_feature=True, rewrites=True, own_write=True)


def choose_ranks(width: int, head: int) -> dict[str, int]:
    """Return the features between the Linears of each thin pair, as RWKV-LM chooses them from the width."""
    factors = {"decay": 2.5 * head / 64, "rate": 2.5 * head / 64, "blend": 1.7 * head / 64, "gate": 5.0}
    least = max(1, min(32, width // 4))
    return {name: max(least, 32 * round(factor * width**0.5 / 32)) for name, factor in factors.items()}
