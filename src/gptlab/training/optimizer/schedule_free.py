"""Schedule-free AdamW (Defazio 2024, arXiv:2405.15682): an average of the weights in place of a falling rate.

    y = (1 - b1) z + b1 x                      where gradients are taken, and what is trained holds
    z = z - lr (g / sqrt(v / (1 - b2^t)) + weight_decay y)
    x = (1 - c) x + c z                        what is evaluated, sampled and kept;  c = lr_max^2 / sum of lr_max^2

lr_max is the largest rate so far. Made for schedule=constant, whose warm-up it wants: a rate that falls as well
averages what hardly moves. The authors' rate is one to ten times AdamW's; it has the model's here. Only matrices decay.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from gptlab.training.optimizer import (
    GroupwiseOptimizer,
    list_state,
    make_decay_groups,
    refuse_bad_adam,
    refuse_bad_knobs,
    select_trained,
)


class ScheduleFree(GroupwiseOptimizer):
    """Schedule-free AdamW. Weights hold y; `average_weights` says what x is.

    lr            rate after warm-up
    betas         b1, the part of the average in y, and the decay of the second moment
    weight_decay  of matrices, at y; 0 turns it off
    eps           added to the root of the second moment
    """

    update = "sign"

    def __init__(
        self,
        named: Iterable[tuple[str, nn.Parameter]],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.1,
        eps: float = 1e-8,
    ) -> None:
        refuse_bad_knobs(lr, weight_decay)
        refuse_bad_adam(betas, eps)
        if not betas[0]:
            raise ValueError(f"betas={list(betas)}: the first is the part of the average, which is not 0; try 0.9")
        own = {"step": 0, "lr_max": 0.0, "weight_sum": 0.0}
        defaults = {"lr": lr, "betas": (betas[0], betas[1]), "weight_decay": weight_decay, "eps": eps, **own}
        super().__init__(make_decay_groups(named), defaults)

    def update_group(self, group: dict[str, Any]) -> None:
        weights, gradients = select_trained(group)
        if not weights:
            return
        lr, (beta1, beta2) = group["lr"], group["betas"]
        group["step"] += 1
        group["lr_max"] = max(group["lr_max"], lr)
        group["weight_sum"] += group["lr_max"] ** 2
        part = group["lr_max"] ** 2 / group["weight_sum"] if group["weight_sum"] else 0.0  # c
        # z begins where the weight does; x needs no memory, as y and z give it
        for p in weights:
            if not self.state[p]:
                self.state[p].update(z=p.clone(), square=torch.zeros_like(p))
        z, squares = list_state(self, weights, "z"), list_state(self, weights, "square")
        torch._foreach_lerp_(squares, torch._foreach_mul(gradients, gradients), 1 - beta2)
        roots = torch._foreach_sqrt(torch._foreach_div(squares, 1 - beta2 ** group["step"]))
        torch._foreach_add_(roots, group["eps"])
        steps = torch._foreach_div(gradients, roots)
        # decay at y, where the gradient was taken
        torch._foreach_add_(steps, weights, alpha=group["weight_decay"])
        # y follows from x and z both before and after: y' = (1 - c) y + c z - lr (1 - b1 (1 - c)) step
        torch._foreach_lerp_(weights, z, part)
        torch._foreach_add_(weights, steps, alpha=-lr * (1 - beta1 * (1 - part)))
        torch._foreach_add_(z, steps, alpha=-lr)

    @torch.no_grad()
    def average_weights(self) -> list[tuple[Tensor, Tensor]]:
        """Return each weight that has been trained, with its average x = (y - (1 - b1) z) / b1."""
        pairs = []
        for group in self.param_groups:
            beta1 = group["betas"][0]
            for p in group["params"]:
                if self.state[p]:
                    pairs.append((p, (p - (1 - beta1) * self.state[p]["z"]) / beta1))
        return pairs
