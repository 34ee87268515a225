"""AdamW (Loshchilov 2017, arXiv:1711.05101), fused; only matrices decay."""

from collections.abc import Iterable

import torch
from torch import nn

from gptlab.optimizer import matrices_and_rest


def adamw(
    named: Iterable[tuple[str, nn.Parameter]],
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.99),
    weight_decay: float = 0.1,
    eps: float = 1e-8,
) -> torch.optim.Optimizer:
    """One AdamW over all trained parameters."""
    if lr < 0:
        raise ValueError(f"lr={lr} is negative; try 1e-3")
    if eps <= 0:
        raise ValueError(f"eps={eps} is not positive; try 1e-8")
    if not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"betas={list(betas)} are not both in [0, 1); try [0.9, 0.99]")
    if weight_decay < 0:
        raise ValueError(f"weight_decay={weight_decay} is negative; 0 turns it off")
    matrices, rest = matrices_and_rest(named)
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=(betas[0], betas[1]), eps=eps, fused=True)
