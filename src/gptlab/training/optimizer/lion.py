"""Lion (Chen 2023, arXiv:2302.06675): every weight moves by the same amount, the sign of a momentum.

    p = p - lr (sign(b1 m + (1 - b1) g) + weight_decay p)
    m = b2 m + (1 - b2) g

A sign is a larger step than Adam's. The paper takes a tenth of AdamW's rate and ten times its decay, for runs of 10^5
steps. Departure: at our sizes and lengths a tenth barely moves (model=nano, 400 steps: docs/log.md, 2026-11-29), so the
menu has AdamW's rate and decay, whose product, which is what shrinks weights, is the paper's.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from gptlab.training.optimizer import (
    GroupwiseOptimizer,
    list_state,
    make_decay_groups,
    refuse_bad_betas,
    refuse_bad_knobs,
    select_trained,
)


class Lion(GroupwiseOptimizer):
    """Lion, with one momentum a weight.

    lr            peak rate
    betas         weight of the momentum in the step, and its own decay
    weight_decay  of matrices; 0 turns it off
    """

    update = "sign"

    def __init__(
        self,
        named: Iterable[tuple[str, nn.Parameter]],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.1,
    ) -> None:
        refuse_bad_knobs(lr, weight_decay)
        refuse_bad_betas(betas)
        defaults = {"lr": lr, "betas": (betas[0], betas[1]), "weight_decay": weight_decay}
        super().__init__(make_decay_groups(named), defaults)

    def update_group(self, group: dict[str, Any]) -> None:
        weights, gradients = select_trained(group)
        if not weights:
            return
        lr, (beta1, beta2) = group["lr"], group["betas"]
        for p in weights:
            if "momentum" not in self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        momenta = list_state(self, weights, "momentum")
        # b1 m + (1 - b1) g: lerp weighs its second argument; all weights in one call
        signs = torch._foreach_lerp(gradients, momenta, beta1)
        torch._foreach_sign_(signs)
        # decay apart from the step, as in AdamW; the order does not matter to the paper's rule
        torch._foreach_mul_(weights, 1 - lr * group["weight_decay"])
        torch._foreach_add_(weights, signs, alpha=-lr)
        torch._foreach_lerp_(momenta, gradients, 1 - beta2)
