"""Stochastic gradient descent with momentum (Polyak 1964; Nesterov 1983): what the others are worth shows against it.

    m = momentum m + g + weight_decay p
    p = p - lr m                           nesterov: p - lr (g + weight_decay p + momentum m)

The decay goes through the momentum (it is not decoupled), and acts on matrices only.
"""

from collections.abc import Iterable

import torch
from torch import nn

from gptlab.training.optimizer import refuse_bad_knobs, split_by_decay


def sgd(
    named: Iterable[tuple[str, nn.Parameter]],
    *,
    lr: float,
    momentum: float = 0.9,
    nesterov: bool = True,
    weight_decay: float = 1e-4,
) -> torch.optim.Optimizer:
    """Return one SGD over all trained parameters.

    lr            peak rate
    momentum      0 is plain gradient descent, which needs nesterov=false
    nesterov      look ahead along the momentum
    weight_decay  of matrices; 0 turns it off
    """
    refuse_bad_knobs(lr, weight_decay, momentum=momentum)
    if nesterov and not momentum:
        raise ValueError("nesterov=true looks ahead along a momentum and momentum=0; set nesterov=false")
    matrices, rest = split_by_decay(named)
    # torch's own decay: it is added to the gradient, and so passes through the momentum
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
    # not fused: that kernel takes no weights in shares (trainer=fsdp, torch 2.13)
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov, foreach=True)
