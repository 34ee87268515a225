"""Contextual positions: a key is as far as the query counts tokens up to itself (CoPE, arXiv:2405.18719).

    gate_ik = sigmoid(q_i . k_k)        place_ij = sum of gate_ik over j <= k <= i, at most `places` - 1
    score_ij = (q_i . k_j + q_i . E[place_ij]) / sqrt(D)

E is interpolated between the two whole places beside it. It is a Linear from a head's query to its product with every
place, the same for all heads, 0 at first. It knows order by itself, so it needs no position: position=nope is the
paper's arm; another one is added to it. Every score is written out.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.model.attention import Attention
from gptlab.model.forward_pass import ForwardPass
from gptlab.model.kv_cache import RingCache
from gptlab.model.mask import Mask
from gptlab.model.shape import Shape


class ContextualPosition(Attention):
    """Softmax attention with contextual positions.

    places   that are told apart; null is the context
    bias     of the Linears, but for that of the places
    dropout  of the attention weights
    """

    supports_documents = True

    def __init__(
        self, shape: Shape, layer: int = 0, *, places: int | None = None, bias: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.places = shape.context if places is None else places
        if self.places < 2:
            raise ValueError(f"places={self.places} tells no two apart; null is model.context, which may be too short")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout} is not in [0, 1); 0 drops nothing")
        self.layer, self.heads, self.head = layer, shape.heads, shape.head
        self.mask, self.dropout = Mask(), dropout
        width = shape.heads * shape.head
        self.q, self.k, self.v = (nn.Linear(shape.width, width, bias) for _ in range(3))
        self.place = nn.Linear(shape.head, self.places, bias=False)
        self.out = nn.Linear(width, shape.width, bias)

    def adjust_initial_weights(self) -> None:
        """Start the position embeddings at 0."""
        nn.init.zeros_(self.place.weight)

    def forward(self, x: Tensor, forward_pass: ForwardPass, cache: RingCache | None = None) -> Tensor:
        q, k, v = (part(x).unflatten(-1, (self.heads, self.head)) for part in (self.q, self.k, self.v))
        q, k = forward_pass.position.rotate(q, k, forward_pass.positions, self.layer)
        key_positions = forward_pass.positions
        if cache is not None:
            key_positions, rows = cache.update(key_positions, k=k, v=v)
            k, v = rows["k"], rows["v"]
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))  # (B, H, T|S, D)
        visible = forward_pass.pass_mask(self.mask, key_positions).tensor()  # (B|1, 1, T, S)
        products = q @ k.mT  # (B, H, T, S)
        scores = (products + self.weigh_places(q, products, visible, key_positions)) * self.head**-0.5
        bias = forward_pass.position.bias(forward_pass.positions, key_positions, self.layer)
        scores = scores if bias is None else scores + bias
        # a finite number, since a query that sees nothing has no softmax of -inf; its weights are set to 0
        weights = scores.masked_fill(~visible, torch.finfo(scores.dtype).min).softmax(-1) * visible
        y = F.dropout(weights, self.dropout, self.training) @ v
        return self.out(y.transpose(1, 2).flatten(-2))

    def weigh_places(self, q: Tensor, products: Tensor, visible: Tensor, key_positions: Tensor) -> Tensor:
        """Return the product of each query with the place of each key, (B, H, T, S)."""
        gates = products.sigmoid() * visible
        # a ring holds its keys in no order once it has gone round: sums run over positions, newest first
        newest_first = key_positions.argsort(-1, descending=True)[:, None, None].expand_as(gates)
        sums = gates.gather(-1, newest_first).cumsum(-1)
        places = torch.zeros_like(sums).scatter(-1, newest_first, sums).clamp(max=self.places - 1)
        below = places.detach().floor().long()
        above = (below + 1).clamp(max=self.places - 1)
        of_places = self.place(q)  # (B, H, T, places)
        low, high = of_places.gather(-1, below), of_places.gather(-1, above)
        return low + (places - below) * (high - low)

    def new_cache(self, batch: int, length: int, like: Tensor) -> RingCache:
        row = (self.heads, self.head)
        return RingCache(batch, length, like, k=row, v=row)

    def pair_flops(self) -> int:
        return 4 * self.heads * self.head

    def pairs(self, length: int) -> int:
        return self.mask.pairs(length)

    def flops(self, length: int) -> int:
        # the decoder counts the Linear of the places once for each token, which meets it head by head
        return self.pairs(length) * self.pair_flops() + 2 * (self.heads - 1) * self.head * self.places * length
