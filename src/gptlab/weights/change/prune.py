"""Weights set to zero, and kept there: y = (W mask) x, where the mask leaves out those with the smallest scores.

l1      the score is |w|, so what matters least goes first        (Han 2015, arXiv:1506.02626)
random  the score is drawn, keyed by the seed and the Linear's name: what any weights are worth, as a control

Exactly round(sparsity n) of n weights are zero: of each target (scope=layer), or of all targets together (global). That
is done at birth or, by `start`, after some steps; with a ramp the sparsity grows from there, over as many steps, as
s (1 - (1 - t / ramp)^3) (Zhu 2017, arXiv:1710.01878), and what is pruned stays pruned. Zeros in no pattern make no
product faster; they only show what can be left out.
"""

from typing import TYPE_CHECKING, Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn.utils import parametrize

from gptlab.model.rng import derive_seed
from gptlab.weights.change import Change, Part

if TYPE_CHECKING:
    from gptlab.model.decoder import Decoder

GONE = -1.0
"""The score of what is pruned already, below all others."""


class Prune(Change):
    """sparsity: the share of zeros in the end. start: steps before the first pruning. ramp: steps over which it grows;
    0 prunes at once. every: steps between two prunings of the ramp."""

    needs_whole_matrices = True

    def __init__(
        self,
        *,
        targets: str | list[str] = "blocks.*",
        method: Literal["l1", "random"] = "l1",
        scope: Literal["layer", "global"] = "layer",
        sparsity: float = 0.5,
        start: int = 0,
        ramp: int = 0,
        every: int = 10,
    ) -> None:
        super().__init__(targets=targets)
        if not 0 <= sparsity < 1:
            raise ValueError(f"sparsity={sparsity} is not in [0, 1); 0 prunes nothing")
        for name, value in (("start", start), ("ramp", ramp)):
            if value < 0:
                raise ValueError(f"{name}={value} is negative; 0 prunes at once")
        if every < 1:
            raise ValueError(f"every={every} is not positive; try 10")
        self.method, self.scope, self.sparsity = method, scope, sparsity
        self.start, self.ramp, self.every = start, ramp, every

    def meet(self, steps: int) -> None:
        if self.start > steps:
            raise ValueError(f"start={self.start} is after steps={steps}; try {steps}, after training")
        if self.start + self.ramp > steps:
            raise ValueError(f"ramp={self.ramp} ends after steps={steps}; try {steps - self.start} or less")

    def __call__(self, decoder: "Decoder", seed: int = 0) -> "Decoder":
        targets = self.weights(decoder)
        masks = {name: Mask(linear.weight) for name, linear in targets.items()}
        for name, linear in targets.items():
            parametrize.register_parametrization(linear, "weight", masks[name])
        decoder.add_module("pruning", Pruning(self, targets, masks, seed))
        return decoder


class Mask(nn.Module):
    """Which weights are kept; with the weights in the checkpoint."""

    kept: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("kept", torch.ones_like(weight, dtype=torch.bool))

    def forward(self, weight: Tensor) -> Tensor:
        return torch.where(self.kept, weight, 0.0)


class Pruning(Part):
    """What prunes, at birth and after steps; it has no tensors of its own."""

    def __init__(self, asked: Prune, targets: dict[str, nn.Linear], masks: dict[str, Mask], seed: int) -> None:
        super().__init__()
        self.asked, self.targets, self.masks, self.seed = asked, targets, masks, seed
        if not asked.start + asked.ramp:
            self.prune(asked.sparsity)

    def after_step(self, step: int) -> None:
        """Prunes at the start, or on the ramp from there: every so many steps, and at its end. The first step is 0."""
        done, ramp = step + 1 - self.asked.start, self.asked.ramp
        if ramp == done == 0:
            self.prune(self.asked.sparsity)
        if 0 < done <= ramp and (done % self.asked.every == 0 or done == ramp):
            self.prune(self.asked.sparsity * (1 - (1 - done / ramp) ** 3))

    @torch.no_grad()
    def prune(self, sparsity: float) -> None:
        """Leaves out that share of the weights, those with the smallest scores."""
        names = list(self.targets)
        for group in [names] if self.asked.scope == "global" else [[name] for name in names]:
            masks = [self.masks[name].kept for name in group]
            if masks[0].is_meta:  # nothing is known of these weights
                return
            scores = torch.cat([self.scores(name) for name in group])
            kept = torch.ones_like(scores, dtype=torch.bool)
            kept[scores.topk(round(sparsity * len(scores)), largest=False, sorted=False).indices] = False
            for mask, part in zip(masks, kept.split([mask.numel() for mask in masks]), strict=True):
                mask.copy_(part.view_as(mask))

    def scores(self, name: str) -> Tensor:
        """What each weight of a target is worth, in one row."""
        mask, weight = self.masks[name].kept, self.targets[name].weight
        if self.asked.method == "random":
            generator = Generator().manual_seed(derive_seed(self.seed, f"{name} pruned"))
            worth = torch.rand(weight.shape, generator=generator).to(weight.device)
        else:
            worth = weight.abs()
        return worth.where(mask, GONE).flatten()

    def merged(self) -> nn.Module:
        return nn.Identity()

    def tell(self) -> dict[str, float]:
        masks = [mask.kept for mask in self.masks.values()]
        return {"sparsity": 1 - sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks)}
