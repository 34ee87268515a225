"""SOAP (Vyas 2024, arXiv:2409.11321): Adam in the eigenbasis of Shampoo's preconditioners, for hidden matrices.

    L = b2 L + (1 - b2) g g^T        R = b2 R + (1 - b2) g^T g         Q_L, Q_R their eigenvectors
    p = p - lr Q_L adam(Q_L^T g Q_R) Q_R^T - lr weight_decay p

The bases are found by an eigendecomposition at the first step, which moves nothing, and then, every so many steps, by
one power iteration and a QR. The first moment is turned with the basis, the second is sorted with it. Decay follows the
step, as in the authors' code, whose defaults these are: betas 0.95, a new basis every 10 steps; its rate is AdamW's, as
in the paper's own runs. All that is no matrix of a block has AdamW at the same rate.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from gptlab.training.optimizer import (
    GroupwiseOptimizer,
    apply_adam_step,
    is_hidden_matrix,
    refuse_bad_adam,
    refuse_bad_knobs,
    select_trained,
    split_by_decay,
)


class Soap(GroupwiseOptimizer):
    """SOAP and AdamW. The first parameter group is SOAP's; AdamW has the others.

    lr            peak rate of both
    betas         decay of the moments of both; the second also of the preconditioners
    every         steps from one basis to the next
    weight_decay  of matrices; 0 turns it off
    eps           added to the root of the second moment
    """

    needs_whole_matrices = True

    def __init__(
        self,
        named: Iterable[tuple[str, nn.Parameter]],
        *,
        lr: float,
        betas: tuple[float, float] = (0.95, 0.95),
        every: int = 10,
        weight_decay: float = 0.1,
        eps: float = 1e-8,
    ) -> None:
        refuse_bad_knobs(lr, weight_decay)
        refuse_bad_adam(betas, eps)
        if every < 1:
            raise ValueError(f"every={every} is not positive; try 10")
        named = [(name, p) for name, p in named if p.requires_grad]
        matrices, rest = split_by_decay((name, p) for name, p in named if not is_hidden_matrix(name, p))
        groups: list[dict[str, Any]] = [
            {"params": [p for name, p in named if is_hidden_matrix(name, p)], "every": every},
            {"params": matrices},
            {"params": rest, "weight_decay": 0.0},
        ]
        defaults = {"lr": lr, "betas": (betas[0], betas[1]), "weight_decay": weight_decay, "eps": eps, "step": 0}
        super().__init__(groups, defaults)

    def update_group(self, group: dict[str, Any]) -> None:
        if "every" not in group:
            apply_adam_step(self, group)
            return
        weights, gradients = select_trained(group)
        for p, gradient in zip(weights, gradients, strict=True):
            self._update_weight(p, gradient, group)
        group["step"] += bool(weights)

    def _update_weight(self, p: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, (beta1, beta2), count = self.state[p], group["betas"], group["step"]
        if not state:
            left, right = gradient @ gradient.mT * (1 - beta2), gradient.mT @ gradient * (1 - beta2)
            bases = torch.linalg.eigh(left)[1].flip(1), torch.linalg.eigh(right)[1].flip(1)  # largest first
            state.update(mean=torch.zeros_like(p), square=torch.zeros_like(p))
            state.update(left=left, right=right, left_basis=bases[0], right_basis=bases[1])
            return
        # the gradient in the eigenbasis, (rows, columns), where Adam's moments are kept
        turned = state["left_basis"].mT @ gradient @ state["right_basis"]
        state["mean"].lerp_(turned, 1 - beta1)
        state["square"].lerp_(turned.square(), 1 - beta2)
        mean, root = state["mean"] / (1 - beta1**count), (state["square"] / (1 - beta2**count)).sqrt()
        # back in the basis of the weight
        step = state["left_basis"] @ (mean / (root + group["eps"])) @ state["right_basis"].mT
        p.add_(step, alpha=-group["lr"]).mul_(1 - group["lr"] * group["weight_decay"])
        # after the step, as the authors do: a basis never knows of the gradient that it turns
        state["left"].lerp_(gradient @ gradient.mT, 1 - beta2)
        state["right"].lerp_(gradient.mT @ gradient, 1 - beta2)
        if count % group["every"] == 0:
            turn_bases(state)


def turn_bases(state: dict[str, Tensor]) -> None:
    """Bring both bases nearer to the eigenvectors of their preconditioners, and the moments with them."""
    mean = state["left_basis"] @ state["mean"] @ state["right_basis"].mT
    for side, axis in (("left", 0), ("right", 1)):
        matrix, basis = state[side], state[f"{side}_basis"]
        order = (basis * (matrix @ basis)).sum(0).argsort(descending=True)  # by its eigenvalues, about
        # squares have no rotation of their own; they follow their eigenvectors' order alone
        state["square"] = state["square"].index_select(axis, order)
        state[f"{side}_basis"] = torch.linalg.qr(matrix @ basis[:, order])[0]
    state["mean"] = state["left_basis"].mT @ mean @ state["right_basis"]
