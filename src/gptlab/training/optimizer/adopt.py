"""ADOPT (Taniguchi 2024, arXiv:2411.02853): Adam that divides by the second moment of the steps before.

    m = b1 m + (1 - b1) clip(g / max(sqrt(v), eps), t^0.25)       p = p - lr m - lr weight_decay p
    v = b2 v + (1 - b2) g^2                                       v starts as the first g^2, with no step

A gradient is not divided by itself, so the method converges for any b2. b2 = 0.9999 and eps = 1e-6 are the paper's. Its
rate is AdamW's. Only matrices decay.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from gptlab.training.optimizer import refuse_bad_adam, refuse_bad_knobs, split_by_decay


class Adopt(torch.optim.Optimizer):
    """ADOPT, with two moments a weight.

    lr            peak rate
    betas         decay of the two moments
    weight_decay  of matrices; 0 turns it off
    eps           least root of the second moment
    """

    def __init__(
        self,
        named: Iterable[tuple[str, nn.Parameter]],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.9999),
        weight_decay: float = 0.1,
        eps: float = 1e-6,
    ) -> None:
        refuse_bad_knobs(lr, weight_decay)
        refuse_bad_adam(betas, eps)
        matrices, rest = split_by_decay(named)
        groups: list[dict[str, Any]] = [{"params": matrices}, {"params": rest, "weight_decay": 0.0}]
        defaults = {"lr": lr, "betas": (betas[0], betas[1]), "weight_decay": weight_decay, "eps": eps, "step": 0}
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Take one step; the closure, if any, computes the gradients first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if weights:
                self._update_weights(weights, group)
                group["step"] += 1
        return loss

    def _update_weights(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        lr, (beta1, beta2) = group["lr"], group["betas"]
        gradients = [p.grad for p in weights if p.grad is not None]
        torch._foreach_mul_(weights, 1 - lr * group["weight_decay"])
        if group["step"]:
            means, squares = ([self.state[p][name] for p in weights] for name in ("mean", "square"))
            roots = torch._foreach_sqrt(squares)
            torch._foreach_clamp_min_(roots, group["eps"])
            normed = torch._foreach_div(gradients, roots)
            bound = group["step"] ** 0.25
            torch._foreach_clamp_max_(normed, bound)
            torch._foreach_clamp_min_(normed, -bound)
            torch._foreach_lerp_(means, normed, 1 - beta1)
            torch._foreach_add_(weights, means, alpha=-lr)
            torch._foreach_lerp_(squares, torch._foreach_mul(gradients, gradients), 1 - beta2)
        else:
            for p, gradient in zip(weights, gradients, strict=True):
                self.state[p].update(mean=torch.zeros_like(p), square=gradient.square())
