"""Linear attention with decay: a state instead of a softmax (RetNet, arXiv:2307.08621).

    S_t = decay S_(t-1) + k_t v_t^T        y_t = S_t^T q_t / sqrt(head width)        out(swish(gate x) norm(y))

The same in chunks, as it is computed here: within a chunk all pairs at once, each weighed by decay^(distance); between
chunks the state. A chunk of one token is the recurrence, a chunk of the whole sequence is the quadratic form. norm is
the RMS of each head, without weights; gate is a Linear as wide as y. The state, head x head numbers for each head, is
all that is remembered. Departures: values are as wide as keys, where RetNet's are twice as wide; its normalisation of
scores is left out, which the norm cancels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.model.attention import Attention
from gptlab.model.forward_pass import ForwardPass
from gptlab.model.kv_cache import RecurrentState
from gptlab.model.shape import Shape


class LinearAttention(Attention):
    """Linear attention with decay. Padding enters no state and does not make it decay.

    gate   whether the output is gated, as published; false lets the norm write alone
    decay  null is 1 - 2^(-5 - h) for head h = 0, 1, ..; a number is for all heads, and 1 forgets nothing
    chunk  tokens computed at once; it changes the time, not the result
    bias   of the Linears
    """

    supports = frozenset({"embed", "rotate"})

    def __init__(
        self,
        shape: Shape,
        layer: int = 0,
        *,
        gate: bool = True,
        decay: float | None = None,
        chunk: int = 64,
        bias: bool = False,
    ) -> None:
        super().__init__()
        if decay is not None and not 0 < decay <= 1:
            raise ValueError(f"decay={decay} is not in (0, 1]; 1 forgets nothing, null gives each head its own")
        if chunk < 1:
            raise ValueError(f"chunk={chunk} is not positive; 1 goes token by token")
        self.layer, self.heads, self.head, self.chunk = layer, shape.heads, shape.head, chunk
        self.decays = [1 - 2.0 ** (-5 - h) if decay is None else decay for h in range(shape.heads)]
        self.q = nn.Linear(shape.width, shape.heads * shape.head, bias)
        self.k = nn.Linear(shape.width, shape.heads * shape.head, bias)
        self.v = nn.Linear(shape.width, shape.heads * shape.head, bias)
        self.gate = nn.Linear(shape.width, shape.heads * shape.head, bias) if gate else None
        self.norm = nn.RMSNorm(shape.head, eps=1e-6, elementwise_affine=False)
        self.out = nn.Linear(shape.heads * shape.head, shape.width, bias)

    def forward(self, x: Tensor, forward_pass: ForwardPass, cache: RecurrentState | None = None) -> Tensor:
        q, k, v = (projection(x).unflatten(-1, (self.heads, self.head)) for projection in (self.q, self.k, self.v))
        # a rotation is linear, so the scores may be scaled before it: (B, T, H, D) are fewer than pairs
        q, k = forward_pass.position.rotate(q * self.head**-0.5, k, forward_pass.positions, self.layer)
        is_token = forward_pass.positions >= 0
        # padding writes nothing into the state
        k = k * is_token[..., None, None]
        state = x.new_zeros(len(x), self.heads, self.head, self.head) if cache is None else cache.state
        # powers of numbers near 1 would round to 1 in bfloat16
        decay = torch.tensor(self.decays, device=x.device, dtype=torch.promote_types(x.dtype, torch.float32))
        outputs = []
        for start in range(0, x.shape[1], self.chunk):
            span = slice(start, start + self.chunk)
            y, state = attend_chunk(q[:, span], k[:, span], v[:, span], is_token[:, span], state, decay)
            outputs.append(y)
        if cache is not None:
            cache.set_state(state)
        y = self.norm(torch.cat(outputs, 1)).flatten(-2)
        return self.out(y if self.gate is None else F.silu(self.gate(x)) * y)

    def new_cache(self, batch: int, length: int, like: Tensor) -> RecurrentState:
        return RecurrentState(batch, like, self.heads, self.head, self.head)

    def pair_flops(self) -> int:
        # 2 for q k^T and 2 for weights v, as for softmax
        return 4 * self.heads * self.head

    def pairs(self, length: int) -> int:
        """Count the pairs within the chunks.

        To write to the state and to read it costs a token as much as `head` pairs.
        """
        chunks, rest = divmod(length, self.chunk)
        inside = chunks * self.chunk * (self.chunk + 1) // 2 + rest * (rest + 1) // 2
        return inside + length * self.head


def attend_chunk(
    q: Tensor, k: Tensor, v: Tensor, is_token: Tensor, state: Tensor, decay: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the outputs (B, C, H, D) of one chunk of q, k, v (B, C, H, D), and the next state (B, H, D, D).

    is_token (B|1, C) tells tokens from padding, whose keys are 0. All powers of decay (H,) are at most 1.
    """
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    # counted in tokens, not in places, so that padding does not make the state decay
    age = is_token.cumsum(1)[:, None]  # (B|1, 1, C), tokens since the state
    distance = (age[..., None] - age[..., None, :]).clamp(min=0)  # (B|1, 1, C, C), query less key
    decay = decay.view(-1, 1, 1)
    # tril: above the diagonal, where nothing may be seen, distance was clamped to 0 and the decay is 1
    weights = (q @ k.mT) * (decay**distance).tril().to(q.dtype)
    decay_since_state = (decay ** age[..., None]).to(q.dtype)
    decay_to_end = (decay ** (age[..., -1:] - age)[..., None]).to(q.dtype)
    y = weights @ v + decay_since_state * (q @ state)
    # the old state ages by all tokens of the chunk, each key by those that come after it
    return y.transpose(1, 2), decay_since_state[:, :, -1:] * state + (decay_to_end * k).mT @ v
