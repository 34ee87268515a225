"""A mixture of experts: each token meets the few that its router likes best (Mixtral, arXiv:2401.04088).

    p = softmax(router x)        y = sum of w_i expert_i(x) over the top_k largest p_i
    w = p / sum of the chosen p        or, normalize=false, w = p (Switch, arXiv:2101.03961; OLMoE, arXiv:2409.02060)
    balance = weight x experts x sum of f_i P_i over the experts (Switch)

f_i is the share of all choices that fall on expert i, P_i the mean of p_i; if all are chosen alike, balance = weight.
One expert is the dense MLP. By default each has 1 / top_k of the dense MLP's inner width (DeepSeekMoE's fine-grained
experts), so that a token meets as many weights as in the dense decoder, and a difference is the mixture's. Mixtral's
experts are each as wide as a dense MLP: mlp.hidden says so, and a token then meets top_k times the weights. No token is
dropped, and none depends on its neighbours.

Every expert computes every token here, and what was not chosen is weighed by 0. So no shape depends on data: a pass is
one graph, and later tokens do not change the bits of earlier ones. It costs experts / top_k times the FLOPs that are
promised, which are those of the experts that a token meets: fit to see what a mixture learns, not how fast it may be.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gptlab.model.forward_pass import ForwardPass
from gptlab.model.mlp import Mlp, count_weights
from gptlab.model.shape import Shape


class MixtureMlp(Mlp):
    """A router and its experts.

    expert     any MLP with the knob `hidden`; as it stands it is the dense MLP that the experts replace
    experts    how many; 1 is the dense MLP
    top_k      experts that a token meets
    hidden     inner width of each expert; null is the dense MLP's over the number of experts that a token meets,
               `shared` included
    normalize  the weights of the chosen sum to 1; else the MLP begins top_k / experts as large as a dense one
    shared     one more expert that all tokens meet, weighed by 1 (DeepSeekMoE, arXiv:2401.06066)
    balance    weight of the loss that spreads tokens over experts; 0 turns it off
    """

    def __init__(
        self,
        shape: Shape,
        layer: int = 0,
        *,
        expert: Callable[..., Mlp],
        experts: int = 4,
        top_k: int = 2,
        hidden: int | None = None,
        normalize: bool = True,
        shared: bool = False,
        balance: float = 0.01,
    ) -> None:
        super().__init__()
        if experts < 1:
            raise ValueError(f"experts={experts} is not positive; 1 is the dense MLP")
        if not 1 <= top_k <= experts:
            raise ValueError(f"top_k={top_k} is not in 1 .. experts={experts}; try {min(2, experts)}")
        if top_k == 1 < experts and normalize:
            raise ValueError("top_k=1 with normalize=true weighs by 1 whatever the router says; say normalize=false")
        if balance < 0:
            raise ValueError(f"balance={balance} is negative; 0 turns it off")
        self.top_k, self.normalize, self.balance = top_k, normalize, balance
        self.router = nn.Linear(shape.width, experts, bias=False)
        if hidden is None:
            # built for its width alone: on meta it takes neither memory nor random numbers
            with torch.device("meta"):
                hidden = max(1, round(expert(shape, layer).hidden / (top_k + shared)))
        self.hidden = hidden
        self.experts = nn.ModuleList(expert(shape, layer, hidden=hidden) for _ in range(experts))
        self.shared = expert(shape, layer, hidden=hidden) if shared else None

    def forward(self, x: Tensor, forward_pass: ForwardPass) -> Tensor:
        probabilities = self.router(x).softmax(-1)  # (B, T, experts)
        top_experts = probabilities.topk(self.top_k, -1).indices
        # the choice has no gradient: the router learns through the weights of what was chosen
        chosen = torch.zeros_like(probabilities).scatter(-1, top_experts, 1.0)  # 1 for the top k, else 0
        if self.balance:
            # a sum over the layers, since all of them write to one name
            forward_pass.losses["balance"] = forward_pass.losses.get("balance", 0.0) + self.compute_balance_loss(
                probabilities, chosen
            )
        weights = probabilities * chosen
        if self.normalize:
            weights = weights / weights.sum(-1, keepdim=True)
        y = torch.zeros_like(x) if self.shared is None else self.shared(x, forward_pass)
        # all experts on all tokens, in a fixed order: see the head of this file
        for weight, expert in zip(weights.split(1, -1), self.experts, strict=True):
            y = y + weight * expert(x, forward_pass)
        return y

    def compute_balance_loss(self, probabilities: Tensor, chosen: Tensor) -> Tensor:
        """Return the weighed balance loss of this layer, for probabilities and choices, 0 or 1, (B, T, experts)."""
        # f_i is a count and moves no weight; P_i carries the gradient
        chosen_share = chosen.mean((0, 1)) / self.top_k
        return self.balance * len(self.experts) * (chosen_share * probabilities.mean((0, 1))).sum()

    def inactive_weights(self, frozen: bool = False) -> int:
        # experts are equal; the router and the shared expert meet every token
        return count_weights(self.experts, frozen) // len(self.experts) * (len(self.experts) - self.top_k)
