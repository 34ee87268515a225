"""Muon (Jordan 2024, kellerjordan.github.io/posts/muon) for hidden matrices, AdamW for all else; one torch Optimizer.

    m = momentum m + (1 - momentum) g
    o = orthogonal((1 - momentum) g + momentum m)          the nearest matrix whose singular values are 1, about
    p = p - lr weight_decay p - lr 0.2 sqrt(max(rows, columns)) o

0.2 sqrt(...) gives the step about the root mean square of AdamW's (Liu 2025, arXiv:2502.16982). Jordan's own rate, 0.02
with sqrt(rows / columns), moves a 64 x 64 matrix six times as far as that rule does at lr=2e-3, so the menu's `lr` is
five times the model's. AdamW keeps the model's rate by `adam_lr`: Jordan's code and nanochat rate the two apart too.

What composes with it, each off by default:

coefficients    polar_express: another polynomial for each turn, the best for what the ones before left (Amsel 2025,
                arXiv:2505.16932); singular values end nearer to 1
neuron_beta     NorMuon (Li 2025, arXiv:2510.05491): rows of o, one an output feature, are divided by a running RMS
                of theirs, and o by its own, so that a step has an RMS of exactly 0.2 lr
cautious        decay acts only where it points as the step does (Chen 2025, arXiv:2510.12402)

Departure: a mixture's router is a matrix of a block, so Muon has it.
Hidden is a matrix called `weight` in a block, so no embedding, head, norm or bias.
Newton and Schulz's iteration takes products alone: in bfloat16 on GPUs; in float32 on CPUs, where bfloat16 takes twice
as long (28 matrices of model=micro: 46 ms against 21 on one thread, 33 against 10 on two, all of a shape at once).
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gptlab.model.parametrization import Update
from gptlab.training.optimizer import (
    GroupwiseOptimizer,
    apply_adam_step,
    is_hidden_matrix,
    refuse_bad_adam,
    refuse_bad_knobs,
    split_by_decay,
)

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Jordan's coefficients of a x + b x^3 + c x^5, steep at 0; singular values end between 0.7 and 1.2."""
POLAR_EXPRESS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
    (1.875, -1.25, 0.375),
)
"""The paper's, for singular values from 0.001 up; the last serves all later turns."""
SAFETY = 1.01
"""Factor by which the paper stretches its polynomials, but for the last, against the rounding of bfloat16."""


class Muon(GroupwiseOptimizer):
    """Muon and AdamW. The first parameter group is Muon's; AdamW has the others.

    lr            of Muon's group
    adam_lr       of AdamW's groups; null is lr. Where both are given, a schedule scales both alike
    momentum      of Muon
    steps         of Newton and Schulz's iteration
    coefficients  of its polynomials: jordan, or polar_express
    neuron_beta   decay of the mean square of each row of a step (NorMuon: 0.95); null leaves rows as they are
    cautious      decay matrices of Muon only where the step shrinks them too
    betas, eps    of AdamW
    weight_decay  of matrices, in both; 0 turns it off
    """

    needs_whole_matrices = True

    def __init__(
        self,
        named: Iterable[tuple[str, nn.Parameter]],
        *,
        lr: float,
        adam_lr: float | None = None,
        momentum: float = 0.95,
        steps: int = 5,
        coefficients: Literal["jordan", "polar_express"] = "jordan",
        neuron_beta: float | None = None,
        cautious: bool = False,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.1,
        eps: float = 1e-8,
    ) -> None:
        refuse_bad_knobs(lr, weight_decay, momentum=momentum, neuron_beta=neuron_beta or 0.0)
        if adam_lr is not None and adam_lr < 0:
            raise ValueError(f"adam_lr={adam_lr} is negative; null is lr={lr}")
        refuse_bad_adam(betas, eps)
        if not 1 <= steps <= 20:
            raise ValueError(f"steps={steps} of Newton and Schulz are not in 1 .. 20; try 5")
        named = [(name, p) for name, p in named if p.requires_grad]
        matrices, rest = split_by_decay((name, p) for name, p in named if not is_hidden_matrix(name, p))
        adam = {"lr": lr if adam_lr is None else adam_lr, "betas": (betas[0], betas[1]), "eps": eps, "step": 0}
        groups: list[dict[str, Any]] = [
            {
                "params": [p for name, p in named if is_hidden_matrix(name, p)],
                "momentum": momentum,
                "steps": steps,
                "coefficients": coefficients,
                "neuron_beta": neuron_beta,
                "cautious": cautious,
            },
            {"params": matrices, **adam},
            {"params": rest, **adam, "weight_decay": 0.0},
        ]
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay})

    def find_update(self, group: dict[str, Any]) -> Update:
        return "spectral" if "momentum" in group else "sign"

    def update_group(self, group: dict[str, Any]) -> None:
        if "momentum" in group:
            self._apply_muon_step(group)
        else:
            apply_adam_step(self, group)

    def _apply_muon_step(self, group: dict[str, Any]) -> None:
        """Orthogonalize all matrices of one shape at once, tall ones transposed, and update the weights."""
        # all matrices of a shape at once: 10 ms on two threads, where one by one takes 19 (docs/log.md, 2026-11-22)
        weights_by_shape: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
        for p in group["params"]:
            if p.grad is not None:
                weights_by_shape[tuple(sorted(p.shape))].append(p)
        for (_, longer), weights in weights_by_shape.items():
            wide = torch.stack([transpose_if_tall(self._update_momentum(p, group), p) for p in weights])
            updates = orthogonalize(wide, group["steps"], group["coefficients"])
            for p, transposed in zip(weights, updates, strict=True):
                update, rate = transpose_if_tall(transposed, p), 0.2 * group["lr"]
                if group["neuron_beta"]:
                    update = self._normalize_rows(update, p, group["neuron_beta"])
                else:
                    # the singular values are 1, so the RMS is 1 / sqrt(longer)
                    rate *= longer**0.5
                decay = group["lr"] * group["weight_decay"]
                # a step goes against `update`, so a weight of its sign is made smaller
                p.mul_(1 - decay * (update * p > 0) if group["cautious"] else 1 - decay)
                p.add_(update, alpha=-rate)

    def _normalize_rows(self, update: Tensor, p: Tensor, beta: float) -> Tensor:
        """Divide the rows of an update by their running root mean square, and all of it by its own."""
        state = self.state[p]
        if "row_square" not in state:
            state["row_square"] = torch.zeros_like(update[:, :1])
        # (rows, 1): one number an output feature
        state["row_square"].lerp_(update.square().mean(1, keepdim=True), 1 - beta)
        update = update / (state["row_square"].sqrt() + 1e-10)
        return update / (update.square().mean().sqrt() + 1e-10)

    def _update_momentum(self, p: Tensor, group: dict[str, Any]) -> Tensor:
        """Update the momentum of a weight; return Nesterov's blend of it with the gradient."""
        state = self.state[p]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(p)
        assert p.grad is not None
        state["momentum"].lerp_(p.grad, 1 - group["momentum"])
        # Nesterov: the gradient enters once more, so that the newest one counts for most
        return p.grad.lerp(state["momentum"], group["momentum"])


def transpose_if_tall(x: Tensor, p: Tensor) -> Tensor:
    """Return x transposed if p has more rows than columns, else x; twice gives x back."""
    return x.mT if p.shape[0] > p.shape[1] else x


def list_polynomials(coefficients: str, steps: int) -> list[tuple[float, float, float]]:
    """Return a, b and c of a x + b x^3 + c x^5 for each turn."""
    if coefficients == "jordan":
        return [QUINTIC] * steps
    last, polynomials = len(POLAR_EXPRESS) - 1, []
    for turn in range(steps):
        # a stretch of x by 1 / factor divides the coefficient of x^n by factor^n
        a, b, c = POLAR_EXPRESS[min(turn, last)]
        factor = SAFETY if turn < last else 1.0
        polynomials.append((a / factor, b / factor**3, c / factor**5))
    return polynomials


def orthogonalize(x: Tensor, steps: int, coefficients: str = "jordan") -> Tensor:
    """Return matrices (N, rows, columns), rows <= columns, with their singular values brought near 1."""
    y = x.bfloat16() if x.is_cuda else x
    # the Frobenius norm is at least the largest singular value, and the iteration diverges above 1; 1e-7 for zeros
    largest = 1.0 if coefficients == "jordan" else SAFETY
    y = y / (largest * y.norm(dim=(1, 2), keepdim=True)).clamp(min=1e-7)
    for a, b, c in list_polynomials(coefficients, steps):
        # of the shorter side, hence wide matrices only
        gram = y @ y.mT  # (N, rows, rows)
        y = torch.baddbmm(y, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), y, beta=a)  # a y + (b G + c G^2) y
    return y.to(x.dtype)
