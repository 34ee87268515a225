"""AdEMAMix (Pagliardini 2024, arXiv:2409.03137): AdamW whose step also follows a mean of gradients that hardly forgets.

    m = b1 m + (1 - b1) g        s = b3(t) s + (1 - b3(t)) g        v = b2 v + (1 - b2) g^2
    p = p - lr ((m / (1 - b1^t) + alpha(t) s) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay p)

alpha(t) rises from 0 to alpha and b3(t) from b1 to b3 within `warmup` steps, b3 so that the half-life of s grows by the
same number of steps each time: ln b3(t) = ln b1 ln b3 / ((1 - t / warmup) ln b3 + t / warmup ln b1). The paper's betas;
alpha = 5 and a warm-up of the whole run are among its choices. Its rate is AdamW's. Only matrices decay.
"""

import math
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


class AdEMAMix(GroupwiseOptimizer):
    """AdEMAMix, with three moments a weight.

    lr            peak rate
    betas         b1 and b2, decay of the two moments of Adam
    slow_beta     b3, decay of the slow mean
    alpha         weight of the slow mean; 0 is AdamW
    warmup        steps in which alpha and slow_beta rise; null is none
    weight_decay  of matrices; 0 turns it off
    eps           added to the root of the second moment
    """

    update = "sign"

    def __init__(
        self,
        named: Iterable[tuple[str, nn.Parameter]],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        slow_beta: float = 0.9999,
        alpha: float = 5.0,
        warmup: int | None = None,
        weight_decay: float = 0.1,
        eps: float = 1e-8,
    ) -> None:
        refuse_bad_knobs(lr, weight_decay, slow_beta=slow_beta)
        refuse_bad_adam(betas, eps)
        if alpha < 0:
            raise ValueError(f"alpha={alpha} is negative; 0 is AdamW")
        if not 0 < betas[0] <= slow_beta:
            raise ValueError(f"slow_beta={slow_beta} forgets sooner than betas={list(betas)}; try 0.9999")
        if warmup is not None and warmup < 1:
            raise ValueError(f"warmup={warmup} is not a number of steps > 0; null is none")
        own = {"slow_beta": slow_beta, "alpha": alpha, "warmup": warmup, "step": 0}
        defaults = {"lr": lr, "betas": (betas[0], betas[1]), "weight_decay": weight_decay, "eps": eps, **own}
        super().__init__(make_decay_groups(named), defaults)

    def update_group(self, group: dict[str, Any]) -> None:
        weights, gradients = select_trained(group)
        if not weights:
            return
        for p in weights:
            if not self.state[p]:
                self.state[p].update(mean=torch.zeros_like(p), slow=torch.zeros_like(p), square=torch.zeros_like(p))
        group["step"] += 1
        lr, (beta1, beta2), step = group["lr"], group["betas"], group["step"]
        means, slows, squares = (list_state(self, weights, name) for name in ("mean", "slow", "square"))
        torch._foreach_lerp_(means, gradients, 1 - beta1)
        torch._foreach_lerp_(slows, gradients, 1 - compute_slow_beta(group))
        torch._foreach_lerp_(squares, torch._foreach_mul(gradients, gradients), 1 - beta2)
        # sqrt(v / (1 - b2^t)), to which eps is added
        roots = torch._foreach_sqrt(torch._foreach_div(squares, 1 - beta2**step))
        torch._foreach_add_(roots, group["eps"])
        updates = torch._foreach_div(means, 1 - beta1**step)
        # the slow mean is not corrected for its start at 0: alpha, which rises, does that
        rising = 1.0 if group["warmup"] is None else min(1.0, step / group["warmup"])
        torch._foreach_add_(updates, slows, alpha=rising * group["alpha"])
        torch._foreach_div_(updates, roots)
        torch._foreach_mul_(weights, 1 - lr * group["weight_decay"])
        torch._foreach_add_(weights, updates, alpha=-lr)


def compute_slow_beta(group: dict[str, Any]) -> float:
    """Return b3 of a group's step: between b1 and b3 while it warms up."""
    beta1, beta3 = group["betas"][0], group["slow_beta"]
    if group["warmup"] is None or group["step"] >= group["warmup"]:
        return beta3
    done = group["step"] / group["warmup"]
    fast, slow = math.log(beta1), math.log(beta3)
    # at done = 0 this is b1, at done = 1 it is b3
    return math.exp(fast * slow / ((1 - done) * slow + done * fast))
