"""A mixture of experts: each token meets the few that its router likes best (Mixtral, arXiv:2401.04088).

    p = softmax(router x), or sigmoid          y = sum of w_i expert_i(x) over the top_k largest p_i + bias_i
    w = p / sum of the chosen p        or, normalize=false, w = p (Switch, arXiv:2101.03961; OLMoE, arXiv:2409.02060)

What spreads tokens over experts, of which f_i is the share of all choices that fall on expert i:

    balance     loss, weight x experts x sum of f_i P_i, P_i the mean of p_i, of sigmoids the mean of p_i / sum p
                (Switch; DeepSeek-V3, arXiv:2412.19437). If all are chosen alike it is the weight
    bias_speed  after each step bias_i moves by bias_speed, up where f_i was below the mean, down where above: it has a
                part in the choice and none in w, and no gradient (Wang 2024, arXiv:2408.15664; DeepSeek-V3: 0.001)
    router_z    loss, weight x mean of log(sum exp(router x))^2, which keeps logits small (ST-MoE, arXiv:2202.08906)

One expert is the dense MLP. By default each has 1 / top_k of the dense MLP's inner width (DeepSeekMoE's fine-grained
experts, arXiv:2401.06066), so that a token meets as many weights as in the dense decoder, and a difference is the
mixture's. Mixtral's experts are each as wide as a dense MLP: mlp.hidden says so, and a token then meets top_k times the
weights. No token is dropped, and none depends on its neighbours, but for the last bits: tokens of one expert share a
product (expert_kernels.py), and a product's rounding may depend on its size.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gptlab.model.expert_kernels import apply_experts
from gptlab.model.forward_pass import ForwardPass
from gptlab.model.mlp import Mlp, count_weights
from gptlab.model.shape import Shape


class MixtureMlp(Mlp):
    """A router and its experts.

    expert      any MLP with the knob `hidden`; as it stands it is the dense MLP that the experts replace
    experts     how many; 1 is the dense MLP
    top_k       experts that a token meets
    hidden      inner width of each expert; null is the dense MLP's over the number of experts that a token meets,
                `shared` included
    router      what makes weights of its logits: softmax, or sigmoid, which rates each expert alone (DeepSeek-V3)
    normalize   the weights of the chosen sum to 1; else the MLP begins top_k / experts as large as a dense one
    shared      so many more experts' width in one MLP that all tokens meet, weighed by 1; true is 1 (DeepSeekMoE)
    balance     weight of the loss that spreads tokens over experts; 0 turns it off
    bias_speed  step of the biases that spread them without a loss; 0 turns them off
    router_z    weight of the loss that keeps the router's logits small; 0 turns it off
    """

    selection_bias: Tensor

    def __init__(
        self,
        shape: Shape,
        layer: int = 0,
        *,
        expert: Callable[..., Mlp],
        experts: int = 4,
        top_k: int = 2,
        hidden: int | None = None,
        router: Literal["softmax", "sigmoid"] = "softmax",
        normalize: bool = True,
        shared: bool | int = False,
        balance: float = 0.01,
        bias_speed: float = 0.0,
        router_z: float = 0.0,
    ) -> None:
        super().__init__()
        refuse_bad_knobs(experts, top_k, normalize, shared)
        for name, value in (("balance", balance), ("bias_speed", bias_speed), ("router_z", router_z)):
            if value < 0:
                raise ValueError(f"{name}={value} is negative; 0 turns it off")
        self.layer, self.top_k, self.scoring, self.normalize = layer, top_k, router, normalize
        self.balance, self.bias_speed, self.router_z = balance, bias_speed, router_z
        self.router = nn.Linear(shape.width, experts, bias=False)
        if hidden is None:
            # built for its width alone: on meta it takes neither memory nor random numbers
            with torch.device("meta"):
                hidden = max(1, round(expert(shape, layer).hidden / (top_k + shared)))
        self.hidden = hidden
        self.experts = nn.ModuleList(expert(shape, layer, hidden=hidden) for _ in range(experts))
        self.shared = expert(shape, layer, hidden=hidden * shared) if shared else None
        if bias_speed:
            self.register_buffer("selection_bias", torch.zeros(experts))
        self.load: Tensor | None = None  # choices of each expert since the last step; no buffer: DDP would share those

    def forward(self, x: Tensor, forward_pass: ForwardPass) -> Tensor:
        logits = self.router(x)
        logits = logits if logits.dtype.itemsize > 2 else logits.float()
        scores = logits.softmax(-1) if self.scoring == "softmax" else logits.sigmoid()  # (B, T, experts)
        preference = scores + self.selection_bias.to(scores.dtype) if self.bias_speed else scores
        # the choice has no gradient: the router learns through the weights of what was chosen
        chosen = preference.topk(self.top_k, -1).indices  # (B, T, top_k)
        weights = scores.gather(-1, chosen)
        if self.normalize:
            weights = weights / weights.sum(-1, keepdim=True)
        counts = torch.zeros_like(scores).scatter(-1, chosen, 1.0).sum((0, 1))  # rows of each expert, (experts,)
        self.report_load(scores, logits, counts, forward_pass)
        experts: list[Any] = list(self.experts)
        # tokens of all rows in one axis, (B T, ...): experts know no sequences
        tokens, chosen, weights = x.flatten(0, 1), chosen.flatten(0, 1), weights.flatten(0, 1)
        y = apply_experts(experts, tokens, chosen, weights=weights, forward_pass=forward_pass)
        y = y.view_as(x).to(x.dtype)  # the weights are float32 also under autocast
        return y if self.shared is None else y + self.shared(x, forward_pass)

    def report_load(self, scores: Tensor, logits: Tensor, counts: Tensor, forward_pass: ForwardPass) -> None:
        """Leave the losses and the load of this layer, for scores and logits (B, T, experts) and counts (experts,)."""
        share = counts / counts.sum()
        forward_pass.facts[f"busiest_expert/{self.layer}"] = share.max() * len(self.experts)
        forward_pass.facts[f"expert_load/{self.layer}"] = share * len(self.experts)  # 1 each where all are met alike
        losses = {}
        if self.balance:
            losses["balance"] = self.balance * compute_balance(scores, share)
        if self.router_z:
            losses["router_z"] = self.router_z * logits.logsumexp(-1).square().mean()
        for name, loss in losses.items():
            forward_pass.losses[name] = forward_pass.losses.get(name, 0.0) + loss
        if self.bias_speed and self.training:
            self.load = counts.detach() if self.load is None else self.load + counts.detach()

    def start_training(self) -> None:
        """Forget the choices of passes that were no training, as those that were timed before it."""
        self.load = None

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Move the biases by the load of all micro-batches and processes of this step."""
        if self.load is None:
            return
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(self.load)
        self.selection_bias += self.bias_speed * (self.load.mean() - self.load).sign().to(self.selection_bias.dtype)
        self.load = None

    def inactive_weights(self, frozen: bool = False) -> int:
        # experts are equal; the router and the shared expert meet every token
        return count_weights(self.experts, frozen) // len(self.experts) * (len(self.experts) - self.top_k)

    def inactive_parameters(self) -> int:
        parameters = sum(p.numel() for p in self.experts.parameters())
        return parameters // len(self.experts) * (len(self.experts) - self.top_k)


def compute_balance(scores: Tensor, share: Tensor) -> Tensor:
    """Return experts x sum of f_i P_i, for scores (B, T, experts) and f (experts,); 1 if all are chosen alike."""
    probabilities = scores / scores.sum(-1, keepdim=True)
    return scores.shape[-1] * (share * probabilities.mean((0, 1))).sum()


def refuse_bad_knobs(experts: int, top_k: int, normalize: bool, shared: int) -> None:
    """Raise ValueError for numbers of experts that make no mixture."""
    if experts < 1:
        raise ValueError(f"experts={experts} is not positive; 1 is the dense MLP")
    if not 1 <= top_k <= experts:
        raise ValueError(f"top_k={top_k} is not in 1 .. experts={experts}; try {min(2, experts)}")
    if top_k == 1 < experts and normalize:
        raise ValueError("top_k=1 with normalize=true weighs by 1 whatever the router says; say normalize=false")
    if shared < 0:
        raise ValueError(f"shared={shared} is negative; 0 has no shared expert")
