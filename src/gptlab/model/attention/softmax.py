"""Softmax attention over shared key and value heads: out(softmax(scale q k^T) v).

mha  kv_heads = heads             Vaswani 2017, arXiv:1706.03762
mqa  kv_heads = 1                 Shazeer 2019, arXiv:1911.02150
gqa  kv_heads between             Ainslie 2023, arXiv:2305.13245: query head h reads kv head floor(h kv_heads / heads)
swa  the last `window` keys only  Mistral, arXiv:2310.06825: the query's own key is counted
forgetting  forget_gate = true    Lin 2025, arXiv:2503.02130, which needs no position: position=nope
xsa  exclusive = true             Zhai 2026, arXiv:2603.09078
value_embeddings  value_embedding = true in every second layer

What composes with it, each off by default:

short_conv      q, k, v = u + conv(u) of their projections u, causal            Canon, Allen-Zhu 2025, arXiv:2512.17351
qk_norm         RMS over each head, before rotation                           Qwen3, arXiv:2505.09388
                whole: over all heads at once                                 OLMo 2, arXiv:2501.00656
qk_clip         after a step q and k of a head are scaled down if a score is above it   MuonClip, arXiv:2507.20534
gate            out(y sigmoid(gate x)), feature by feature or head by head    Qiu 2025, arXiv:2505.06708
forget_gate     scores less sum(-log sigmoid(forget x)) from key to query     FoX, arXiv:2503.02130
exclusive       y less its part along the query's own value                   XSA, arXiv:2603.09078
sink            one more logit a head, learned, that carries no value         gpt-oss, arXiv:2508.10925
softcap         z = cap tanh(z / cap) of the scaled scores                    Gemma 2, arXiv:2408.00118
value_embedding  v = a v + b E[token], E of this layer alone, a = b = 1/2 at first   Jordan 2024, modded-nanogpt
                gate: v = v + 2 sigmoid(gate x) E[token], head by head        Karpathy 2026, nanochat
value_residual  v = v + blend (v of the first layer - v), blend learned       Zhou 2024, arXiv:2410.17897
share_with      keys and values of the layer so many layers above             CLA, arXiv:2405.12981
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.model.attention import Attention, choose_scale
from gptlab.model.attention_kernels import attend
from gptlab.model.forward_pass import ForwardPass
from gptlab.model.kv_cache import RingCache
from gptlab.model.mask import Mask
from gptlab.model.recurrence.parts import hide_padding
from gptlab.model.shape import Shape
from gptlab.model.softmax_parts import (
    Reading,
    ScoreClip,
    make_norm,
    make_short_conv,
    make_value_embedding,
    refuse_bad_clip,
    refuse_bad_knobs,
    refuse_bad_sharing,
    remove_component,
)


class SoftmaxAttention(Attention):
    """Softmax attention over shared key and value heads. Formulas: see the head of this file.

    kv_heads        key and value heads; null is one for each query head
    window          keys that a query sees, its own counted; null is all
    short_conv      tokens that a convolution of q, k and v sees, its own the last (Canon: 4); null is none
    qk_norm         normalize queries and keys, head by head; whole is all heads at once
    qk_clip         largest score of a head that is left alone after a training step (Kimi K2: 100); null is none
    gate            multiply what is read by a sigmoid of the input; head is one number for each head
    forget_gate     let each head forget, by a gate that every token sets for all that came before it
    exclusive       take off what is read the part along the query's own value
    sink            give each head a learned logit that carries no value, so that it may attend to nothing
    softcap         bound of the scaled scores; null is none
    value_embedding  mix a learned vector of the token into the values; gate lets each head say how much of it
    value_residual  blend the values with those of the first layer
    share_with      null has its own keys and values; 1 reads the layer above's, which may itself be a reader, must
                    agree in heads and window, and keeps the cache for both
    scale           of the scores; null is 1 / sqrt(head width)
    bias            of all Linears but `out`
    out_bias        of the Linear `out`
    dropout         of the attention weights
    """

    supports_documents = True

    def __init__(
        self,
        shape: Shape,
        layer: int = 0,
        *,
        kv_heads: int | None = None,
        window: int | None = None,
        short_conv: int | None = None,
        qk_norm: bool | Literal["whole"] = False,
        qk_clip: float | None = None,
        gate: bool | Literal["head"] = False,
        forget_gate: bool = False,
        exclusive: bool = False,
        sink: bool = False,
        softcap: float | None = None,
        value_embedding: bool | Literal["gate"] = False,
        value_residual: bool = False,
        share_with: int | None = None,
        scale: float | None = None,
        bias: bool = False,
        out_bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        kv_heads = shape.heads if kv_heads is None else kv_heads
        refuse_bad_knobs(shape, kv_heads, window=window, scale=scale, softcap=softcap, dropout=dropout)
        refuse_bad_clip(qk_clip, qk_norm)
        # these change keys or values, which a reader of another layer's takes as they are
        of_keys = {"forget_gate": forget_gate, "short_conv": short_conv, "qk_clip": qk_clip}
        of_values = {"value_embedding": value_embedding, "value_residual": value_residual, "exclusive": exclusive}
        refuse_bad_sharing(layer, share_with, **of_keys, **of_values)
        self.layer, self.heads, self.kv_heads, self.head = layer, shape.heads, kv_heads, shape.head
        self.mask, self.softcap, self.dropout = Mask(window), softcap, dropout
        self.scale = choose_scale(shape) if scale is None else scale
        self.scales_with_head = scale is None  # a scale that was given stays as it is
        self.value_residual, self.share_with, self.source, self.lends = value_residual, share_with, layer, False
        self.exclusive, self.qk_clip = exclusive, None if qk_clip is None else ScoreClip(qk_clip)
        self.whole_norm = qk_norm == "whole"
        self.q = nn.Linear(shape.width, shape.heads * shape.head, bias)
        # biased apart from the others: Qwen 2 has biases on q, k and v alone, GPT-2 on all four
        self.out = nn.Linear(shape.heads * shape.head, shape.width, out_bias)
        self.q_norm = make_norm(qk_norm, shape.heads, shape.head)
        gate_width = shape.heads if gate == "head" else shape.heads * shape.head
        self.gate = nn.Linear(shape.width, gate_width, bias) if gate else None
        self.forget = nn.Linear(shape.width, shape.heads) if forget_gate else None
        self.sink = nn.Parameter(torch.zeros(shape.heads)) if sink else None  # 0 draws as a key whose score is 0
        if share_with is None:
            self.add_keys_and_values(shape, bias, qk_norm, short_conv=short_conv, value_embedding=value_embedding)
        if value_residual and layer:  # layer 0 lends its values and has nothing to blend them with
            self.blend = nn.Parameter(torch.tensor(0.5))

    def add_keys_and_values(
        self,
        shape: Shape,
        bias: bool,
        qk_norm: bool | Literal["whole"],
        *,
        short_conv: int | None,
        value_embedding: bool | Literal["gate"],
    ) -> None:
        """Add what only a layer with keys and values of its own has."""
        self.k = nn.Linear(shape.width, self.kv_heads * shape.head, bias)
        self.v = nn.Linear(shape.width, self.kv_heads * shape.head, bias)
        self.k_norm = make_norm(qk_norm, self.kv_heads, shape.head)
        self.conv = make_short_conv(short_conv, (shape.heads + 2 * self.kv_heads) * shape.head)
        self.value_embedding = make_value_embedding(shape, self.kv_heads, value_embedding)

    def forward(self, x: Tensor, forward_pass: ForwardPass, cache: RingCache | None = None) -> Tensor:
        q, k, v, key_positions, own_v, forgotten = (
            self.read_own_keys_and_values(x, forward_pass, cache)
            if self.share_with is None
            else self.read_shared_keys_and_values(x, forward_pass)
        )
        bias = forward_pass.position.bias(forward_pass.positions, key_positions, self.layer)
        if forgotten is not None:
            bias = forgotten if bias is None else bias + forgotten
        if self.qk_clip is not None and self.training:
            largest = self.qk_clip.observe(q, k, forward_pass.pass_mask(self.mask, key_positions), self.scale)
            forward_pass.facts[f"largest_score/{self.layer}"] = largest
        y = attend(
            q,
            k,
            v,
            forward_pass.pass_mask(self.mask, key_positions),
            bias=bias,
            scale=self.scale,
            sink=self.sink,
            softcap=self.softcap,
            dropout=self.dropout if self.training else 0.0,
        )
        if own_v is not None:
            y = remove_component(y, own_v.repeat_interleave(self.heads // self.kv_heads, 2))
        if self.gate is not None:
            # a gate of each head is one number for its D features
            y = y * self.gate(x).unflatten(-1, (self.heads, -1)).sigmoid()
        return self.out(y.flatten(-2))

    def start_training(self) -> None:
        """Forget the scores of passes that were no training."""
        if self.qk_clip is not None:
            self.qk_clip.largest = None

    def after_step(self, step: int) -> None:
        """Scale queries and keys of heads whose scores were above the clip."""
        if self.qk_clip is not None:
            self.qk_clip.scale_down(self.q, self.k, self.head)

    def split_heads(self, projected: Tensor, norm: nn.Module) -> Tensor:
        """Return (B, T, H D) as heads (B, T, H, D), normalized."""
        if self.whole_norm:
            return norm(projected).unflatten(-1, (-1, self.head))
        return norm(projected.unflatten(-1, (-1, self.head)))

    def project(self, x: Tensor, forward_pass: ForwardPass, cache: RingCache | None) -> Sequence[Tensor]:
        """Return the projections of x to queries, keys and values, (B, T, features) each, convolved if asked for."""
        projected = [linear(x) for linear in (self.q, self.k, self.v)]
        if self.conv is None:
            return projected
        u = torch.cat(projected, -1)
        count = self.conv.size - 1
        past = u.new_zeros(len(u), count, u.shape[-1]) if cache is None else cache.past[:, -count:]
        convolved, _ = self.conv(u, forward_pass, past)
        if cache is not None:
            cache.remember(hide_padding(u, forward_pass))
        return (u + convolved).split([part.shape[-1] for part in projected], -1)

    def read_own_keys_and_values(self, x: Tensor, forward_pass: ForwardPass, cache: RingCache | None) -> Reading:
        """Return q rotated, and k and v of its own with those cached."""
        q, k, v = self.project(x, forward_pass, cache)
        q = self.split_heads(q, self.q_norm)  # (B, T, H, D)
        k = self.split_heads(k, self.k_norm)  # (B, T, K, D)
        v = v.unflatten(-1, (self.kv_heads, self.head))
        if self.value_embedding is not None:
            v = self.value_embedding(v, x, forward_pass.tokens)
        if self.value_residual:
            # before the cache, which then holds blended values
            v = torch.lerp(v, forward_pass.shared["first value"], self.blend) if self.layer else v
            forward_pass.shared.setdefault("first value", v)
        own_v = v if self.exclusive else None
        q, k = forward_pass.position.rotate(q, k, forward_pass.positions, self.layer)
        key_positions, rows = forward_pass.positions, {"k": k, "v": v}
        if self.forget is not None:
            rows["forgotten"] = self.sum_forgetting(x, forward_pass, cache)
        query_sums = rows.get("forgotten")  # (B, T, H)
        if cache is not None:
            key_positions, rows = cache.update(key_positions, **rows)
        # S entries: those that the cache still holds, and the new ones
        k, v = rows["k"], rows["v"]  # (B, S, K, D)
        if self.lends:
            forward_pass.shared[f"keys of {self.layer}"] = k, v, key_positions
        forgotten = None
        if query_sums is not None:
            # the log gates of the tokens after the key, up to the query
            differences = query_sums[:, :, None] - rows["forgotten"][:, None]  # (B, T, S, H)
            forgotten = differences.movedim(-1, 1).to(q.dtype)
        return Reading(q, k, v, key_positions, own_v=own_v, forgotten=forgotten)

    def sum_forgetting(self, x: Tensor, forward_pass: ForwardPass, cache: RingCache | None) -> Tensor:
        """Return the sums of all log gates so far, (B, T, H). Padding forgets nothing."""
        assert self.forget is not None
        log_gates = F.logsigmoid(self.forget(x).to(torch.promote_types(x.dtype, torch.float32)))
        log_gates = log_gates.masked_fill((forward_pass.positions < 0)[..., None], 0.0)
        sums = log_gates.cumsum(1)
        return sums if cache is None else sums + cache.take_last("forgotten").to(sums.dtype)

    def read_shared_keys_and_values(self, x: Tensor, forward_pass: ForwardPass) -> Reading:
        """Return the same with the keys and values of another layer, which were rotated as that layer rotates."""
        q = self.split_heads(self.q(x), self.q_norm)
        # the keys were rotated by their own layer; only queries are left
        no_keys = q[:, :, :0]
        q, _ = forward_pass.position.rotate(q, no_keys, forward_pass.positions, self.source)
        k, v, key_positions = forward_pass.shared[f"keys of {self.source}"]
        return Reading(q, k, v, key_positions, own_v=None, forgotten=None)

    def check_compatible(self, position, earlier: Sequence[Attention]) -> None:
        super().check_compatible(position, earlier)
        if self.value_residual and self.layer:
            first = earlier[0]
            if not (isinstance(first, SoftmaxAttention) and first.value_residual and self.has_same_kv_shape(first)):
                problem = f"layer {self.layer} finds no values of its kind in layer 0"
                raise ValueError(f"attention: value_residual=true: {problem}; set it in both, with the same kv_heads")
        if self.share_with is not None:
            # kinds by layer may mix, so what is read may be no softmax attention, or of other sizes
            shared_layer = earlier[self.layer - self.share_with]
            if not (
                isinstance(shared_layer, SoftmaxAttention)
                and self.has_same_kv_shape(shared_layer)
                and shared_layer.mask == self.mask
            ):
                problem = f"layer {self.layer} cannot read layer {self.layer - self.share_with}"
                raise ValueError(
                    f"attention: share_with={self.share_with}: {problem}; make kv_heads and window the same"
                )
            # a reader of a reader reads its source, so that a chain ends at one cache
            self.source = shared_layer.source
            owner = earlier[self.source]
            assert isinstance(owner, SoftmaxAttention)
            owner.lends = True

    def has_same_kv_shape(self, other: "SoftmaxAttention") -> bool:
        """Return whether its keys and values have the shape of the other's."""
        return (self.kv_heads, self.head) == (other.kv_heads, other.head)

    def new_cache(self, batch: int, length: int, like: Tensor) -> RingCache | None:
        if self.share_with is not None:
            return None
        # a window's ring needs no more slots than the window: kv_cache.py says why that is enough
        row = (self.kv_heads, self.head)
        rows = {"k": row, "v": row} | ({} if self.forget is None else {"forgotten": (self.heads,)})
        past = (0, 0) if self.conv is None else self.conv.past_shape
        return RingCache(batch, min(length, self.mask.reach or length), like, past, **rows)

    def pair_flops(self) -> int:
        # 2 for q k^T and 2 for weights v: a product and a sum for each feature
        return 4 * self.heads * self.head

    def pairs(self, length: int) -> int:
        return self.mask.pairs(length)
