"""ADOPT (Taniguchi 2024, arXiv:2411.02853): Adam that divides by the second moment of the steps before.

    m = b1 m + (1 - b1) clip(g / max(sqrt(v), eps), t^0.25)       p = p - lr m - lr weight_decay p
    v = b2 v + (1 - b2) g^2                                       v starts as the first g^2, with no step

A gradient is not divided by itself, so the method converges for any b2. b2 = 0.9999 and eps = 1e-6 are the paper's. Its
rate is AdamW's. Only matrices decay.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from gptlab.training.optimizer import (
    GroupwiseOptimizer,
    list_state,
    make_decay_groups,
    refuse_bad_adam,
    refuse_bad_knobs,
    select_trained,
)


class Adopt(GroupwiseOptimizer):
    """ADOPT, with two moments a weight.

    lr            peak rate
    betas         decay of the two moments
    weight_decay  of matrices; 0 turns it off
    eps           least root of the second moment
    """

    update = "sign"

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
        defaults = {"lr": lr, "betas": (betas[0], betas[1]), "weight_decay": weight_decay, "eps": eps, "step": 0}
        super().__init__(make_decay_groups(named), defaults)

    def update_group(self, group: dict[str, Any]) -> None:
        weights, gradients = select_trained(group)
        if not weights:
            return
        lr, (beta1, beta2) = group["lr"], group["betas"]
        # also at the first step, which has no direction yet
        torch._foreach_mul_(weights, 1 - lr * group["weight_decay"])
        if group["step"]:
            means, squares = list_state(self, weights, "mean"), list_state(self, weights, "square")
            # of the steps before this one: v is updated last
            roots = torch._foreach_sqrt(squares)
            torch._foreach_clamp_min_(roots, group["eps"])
            normed = torch._foreach_div(gradients, roots)
            # t^(1/4): a guard for the first steps, whose second moment is of few gradients
            bound = group["step"] ** 0.25
            torch._foreach_clamp_max_(normed, bound)
            torch._foreach_clamp_min_(normed, -bound)
            torch._foreach_lerp_(means, normed, 1 - beta1)
            torch._foreach_add_(weights, means, alpha=-lr)
            torch._foreach_lerp_(squares, torch._foreach_mul(gradients, gradients), 1 - beta2)
        else:
            for p, gradient in zip(weights, gradients, strict=True):
                self.state[p].update(mean=torch.zeros_like(p), square=gradient.square())
        group["step"] += 1
