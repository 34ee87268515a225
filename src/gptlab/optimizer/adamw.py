"""AdamW (Loshchilov 2017, arXiv:1711.05101), fused; only matrices decay."""

from collections.abc import Iterable

import torch
from torch import nn

from gptlab.optimizer import matrices_and_rest, refuse_bad, refuse_bad_adam


def adamw(
    named: Iterable[tuple[str, nn.Parameter]],
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.99),
    weight_decay: float = 0.1,
    eps: float = 1e-8,
) -> torch.optim.Optimizer:
    """One AdamW over all trained parameters."""
    refuse_bad(lr, weight_decay)
    refuse_bad_adam(betas, eps)
    matrices, rest = matrices_and_rest(named)
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=(betas[0], betas[1]), eps=eps, fused=True)
