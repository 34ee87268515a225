"""AdamW (Loshchilov 2017, arXiv:1711.05101), fused; only matrices decay.

m = b1 m + (1 - b1) g        v = b2 v + (1 - b2) g^2
p = p - lr weight_decay p - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
"""

from collections.abc import Iterable
from typing import Any

from torch import nn

from gptlab.training.optimizer import (
    GroupwiseOptimizer,
    apply_adam_step,
    make_decay_groups,
    refuse_bad_adam,
    refuse_bad_knobs,
)


class AdamW(GroupwiseOptimizer):
    """AdamW, with two moments a weight.

    lr            peak rate
    betas         decay of the two moments
    weight_decay  of matrices; 0 turns it off
    eps           added to the root of the second moment
    """

    update = "sign"
    capturable = True

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
        defaults = {"lr": lr, "betas": (betas[0], betas[1]), "weight_decay": weight_decay, "eps": eps, "step": 0}
        super().__init__(make_decay_groups(named), defaults)

    def update_group(self, group: dict[str, Any]) -> None:
        apply_adam_step(self, group)
