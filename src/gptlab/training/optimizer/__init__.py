"""Optimizers: gradients to weight updates.

A choice is called with the named parameters and returns one torch Optimizer, also where two rules are at work. Every
choice has the knob `lr`; the schedule scales it.
"""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from gptlab.model.parametrization import Scaling, StepFactors, Update


class GroupwiseOptimizer(torch.optim.Optimizer):
    """Base of our own optimizers: a step is an update of each parameter group, in their order.

    update      how large a step is, by which a parametrization scales rates; None is not known
    capturable  `lr` and `step` of a group may be tensors, as in a CUDA graph
    """

    update: Update | None = None
    capturable = False

    # torch keeps its compiler out of these two by a wrapper that imports it at the first call, a quarter of the start
    # of a study; nothing here is compiled
    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Take one step; the closure, if any, computes the gradients first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self.update_group(group)
        return loss

    def find_update(self, group: dict[str, Any]) -> Update | None:
        """Return how large the steps of one group are."""
        return self.update

    def update_group(self, group: dict[str, Any]) -> None:
        """Update the weights of one group that have gradients."""
        raise NotImplementedError


def split_by_decay(named: Iterable[tuple[str, nn.Parameter]]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Split the trained parameters: those of two or more axes decay, the others (norms, biases, gains) do not."""
    matrices, rest = [], []
    for _, p in named:
        if p.requires_grad:
            # a table of embeddings counts as a matrix
            (matrices if p.ndim >= 2 else rest).append(p)
    return matrices, rest


def make_decay_groups(named: Iterable[tuple[str, nn.Parameter]]) -> list[dict[str, Any]]:
    """Return the trained parameters as two groups, of which the second does not decay."""
    matrices, rest = split_by_decay(named)
    return [{"params": matrices}, {"params": rest, "weight_decay": 0.0}]


def select_trained(group: dict[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the weights of a group that have gradients, and these; a group may be empty, or frozen for now."""
    weights = [p for p in group["params"] if p.grad is not None]
    return weights, [p.grad for p in weights]


def list_state(optimizer: torch.optim.Optimizer, weights: list[Tensor], name: str) -> list[Tensor]:
    """Return one of the tensors that an optimizer keeps for each weight, as torch's _foreach functions take them."""
    return [optimizer.state[p][name] for p in weights]


def is_hidden_matrix(name: str, p: Tensor) -> bool:
    """Return whether a parameter is a matrix with activations on both its sides, which an embedding is not."""
    is_weight = name.startswith(("blocks.", "ahead.")) and name.endswith(".weight")
    return p.ndim == 2 and is_weight and not name.endswith(".embedding.weight")


def refuse_bad_knobs(lr: float, weight_decay: float, **fractions: float) -> None:
    """Raise ValueError for a negative rate or decay, and for any of `fractions`, such as a momentum, not in [0, 1)."""
    if lr < 0:
        raise ValueError(f"lr={lr} is negative; try 1e-3")
    if weight_decay < 0:
        raise ValueError(f"weight_decay={weight_decay} is negative; 0 turns it off")
    for name, value in fractions.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name}={value} is not in [0, 1); 0 remembers nothing")


def refuse_bad_adam(betas: tuple[float, float], eps: float) -> None:
    """Raise ValueError for betas outside [0, 1), and an eps that is not positive."""
    if eps <= 0:
        raise ValueError(f"eps={eps} is not positive; try 1e-8")
    refuse_bad_betas(betas)


def refuse_bad_betas(betas: tuple[float, float]) -> None:
    """Raise ValueError for betas outside [0, 1)."""
    if not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"betas={list(betas)} are not both in [0, 1); try [0.9, 0.99]")


def apply_adam_step(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> None:
    """Apply Adam's step with decoupled decay to one group, by torch's fused kernel.

    The group holds lr, betas, weight_decay, eps, and `step`, the steps so far; lr and step may be tensors, as under
    trainer.cuda_graph. One count serves the group: torch's own classes keep one for each weight and add to them one by
    one, 0.80 ms for 68 weights (0.8 M parameters, two threads) where this takes 0.51 (2026-11).
    """
    weights, gradients = select_trained(group)
    if not weights:
        return
    group["step"] += 1
    for p in weights:
        if not optimizer.state[p]:
            optimizer.state[p].update(mean=torch.zeros_like(p), square=torch.zeros_like(p))
    count = group["step"]
    if not isinstance(count, Tensor):
        # filled there: a number copied to a GPU makes the CPU wait for all that the GPU has to do
        count = torch.full((), float(count), device=weights[0].device)
    torch._fused_adamw_(
        weights,
        gradients,
        list_state(optimizer, weights, "mean"),
        list_state(optimizer, weights, "square"),
        [],  # largest squares so far, which amsgrad alone keeps
        [count] * len(weights),
        lr=group["lr"],
        beta1=group["betas"][0],
        beta2=group["betas"][1],
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        amsgrad=False,
        maximize=False,
    )


# -- groups under a parametrization


def scale_groups(
    optimizer: torch.optim.Optimizer, named: Iterable[tuple[str, nn.Parameter]], scaling: Scaling | None
) -> None:
    """Split each group of a new optimizer into groups of parameters with the same factors, and scale their knobs.

    Without a scaling the groups stay as they are. Raises ValueError for an optimizer or a parameter without a rule.
    """
    if scaling is None:
        return
    names = {p: name for name, p in named}
    groups = [*optimizer.param_groups]
    optimizer.param_groups.clear()
    for group in groups:
        by_factors: dict[StepFactors, list[Any]] = {}
        update = find_update(optimizer, group)
        for p in group["params"]:
            by_factors.setdefault(scaling.find_step_factors(names[p], update), []).append(p)
        # a group may be empty, as where no matrix is in a block; it stays, so that groups keep their order
        for factors, parameters in by_factors.items() or [(StepFactors(), [])]:
            optimizer.add_param_group(_scale_group({**group, "params": parameters}, factors))


def _scale_group(group: dict[str, Any], factors: StepFactors) -> dict[str, Any]:
    scaled = {"lr": group["lr"] * factors.lr, "weight_decay": group["weight_decay"] / factors.lr}
    if "eps" in group:
        scaled["eps"] = group["eps"] * factors.eps
    return {**group, **scaled}


def find_update(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> Update:
    """Return how large the steps of one group are. Raises ValueError for an optimizer that does not say so."""
    if isinstance(optimizer, torch.optim.SGD):
        return "gradient"
    update = optimizer.find_update(group) if isinstance(optimizer, GroupwiseOptimizer) else None
    if update is None:
        raise ValueError(
            f"parametrization does not go with optimizer ({type(optimizer).__name__}), which does not say how its step "
            "follows the width; say parametrization=standard, or give it `update`"
        )
    return update
