"""Pruning: y = (W mask) x, where the mask sets the weights with the smallest scores to zero.

l1      the score is |w|, so the smallest weights go first        (Han 2015, arXiv:1506.02626)
random  the score is drawn, keyed by the seed and the Linear's name: what any weights are worth, as a control

Exactly round(sparsity n) of n weights are zero: of each target (scope=layer), or of all targets together (global). By
default it begins half-way through training, as Han trains, prunes and trains again, and from there the sparsity grows
over a quarter of the steps, as s (1 - (1 - t / ramp)^3) (Zhu 2017, arXiv:1710.01878); what is pruned stays pruned.
start=0 ramp=0 prunes at birth, by magnitudes that were drawn at random. Zeros in no pattern make no product faster;
they only show what can be left out.
"""

from typing import TYPE_CHECKING, Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn.utils import parametrize

from gptlab.model.rng import derive_seed
from gptlab.weights.change import Change, ChangeModule

if TYPE_CHECKING:
    from gptlab.model.decoder import Decoder

PRUNED_SCORE = -1.0
"""Score of weights that are pruned already, below all others."""


class Prune(Change):
    """Prune the targets.

    method    l1 or random
    scope     layer or global
    sparsity  share of zeros in the end
    start     steps before the first pruning; 0 prunes before training, null is half of the training
    ramp      steps over which the sparsity grows; 0 prunes at once, null takes a quarter of the training, or what
              start leaves
    every     steps between two prunings of the ramp
    """

    needs_whole_matrices = True

    def __init__(
        self,
        *,
        targets: str | list[str] = "blocks.*",
        method: Literal["l1", "random"] = "l1",
        scope: Literal["layer", "global"] = "layer",
        sparsity: float = 0.5,
        start: int | None = 0,
        ramp: int | None = 0,
        every: int = 10,
    ) -> None:
        super().__init__(targets=targets)
        if not 0 <= sparsity < 1:
            raise ValueError(f"sparsity={sparsity} is not in [0, 1); 0 prunes nothing")
        for name, value in (("start", start), ("ramp", ramp)):
            if value is not None and value < 0:
                raise ValueError(f"{name}={value} is negative; 0 prunes at once")
        if every < 1:
            raise ValueError(f"every={every} is not positive; try 10")
        self.method, self.scope, self.sparsity = method, scope, sparsity
        self.start, self.ramp, self.every = start, ramp, every

    def check_compatible(self, steps: int) -> None:
        """Fill in what was left to the length of the training; refuse what does not fit into it."""
        self.start = steps // 2 if self.start is None else self.start
        if self.start > steps:
            raise ValueError(f"start={self.start} is after steps={steps}; try {steps}, after training")
        self.ramp = min(steps // 4, steps - self.start) if self.ramp is None else self.ramp
        if self.start + self.ramp > steps:
            raise ValueError(f"ramp={self.ramp} ends after steps={steps}; try {steps - self.start} or less")

    def __call__(self, decoder: "Decoder", seed: int = 0) -> "Decoder":
        targets = self.find_unpacked_linears(decoder)
        masks = {name: PruneMask(linear.weight) for name, linear in targets.items()}
        for name, linear in targets.items():
            # a parametrisation, so that the optimizer moves the weight below the mask and its gradient there is 0
            parametrize.register_parametrization(linear, "weight", masks[name])
        decoder.add_module("pruning", Pruner(self, targets, masks, seed))
        return decoder


class PruneMask(nn.Module):
    """A parametrisation that sets pruned weights to zero. Its mask is in the checkpoint, with the weights."""

    kept: Tensor  # a key of checkpoints, so it stays

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("kept", torch.ones_like(weight, dtype=torch.bool))

    def forward(self, weight: Tensor) -> Tensor:
        return torch.where(self.kept, weight, 0.0)


class Pruner(ChangeModule):
    """Prunes before training and after steps; it has no tensors of its own."""

    def __init__(self, settings: Prune, targets: dict[str, nn.Linear], masks: dict[str, PruneMask], seed: int) -> None:
        super().__init__()
        self.settings, self.targets, self.masks, self.seed = settings, targets, masks, seed
        self.start, self.ramp = settings.start or 0, settings.ramp or 0
        if not self.start + self.ramp:
            self.prune(settings.sparsity)

    def after_step(self, step: int) -> None:
        """Prune at the start, or on the ramp from there: every `every` steps, and at its end. The first step is 0."""
        ramp_step, ramp = step + 1 - self.start, self.ramp
        if ramp == ramp_step == 0:
            self.prune(self.settings.sparsity)
        if 0 < ramp_step <= ramp and (ramp_step % self.settings.every == 0 or ramp_step == ramp):
            self.prune(self.settings.sparsity * (1 - (1 - ramp_step / ramp) ** 3))

    @torch.no_grad()
    def prune(self, sparsity: float) -> None:
        """Mask that share of the weights, those with the smallest scores."""
        names = list(self.targets)
        for group in [names] if self.settings.scope == "global" else [[name] for name in names]:
            masks = [self.masks[name].kept for name in group]
            if masks[0].is_meta:  # a decoder that is only counted has no weights to compare
                return
            # compared over the whole group: with scope=global a Linear of small weights loses more
            scores = torch.cat([self.compute_scores(name) for name in group])
            # topk and not a threshold: ties would prune more or fewer than was asked for
            pruned = scores.topk(round(sparsity * len(scores)), largest=False, sorted=False).indices
            remaining = torch.ones_like(scores, dtype=torch.bool)
            remaining[pruned] = False
            for mask, new_mask in zip(masks, remaining.split([mask.numel() for mask in masks]), strict=True):
                mask.copy_(new_mask.view_as(mask))

    def compute_scores(self, name: str) -> Tensor:
        """Return the scores of a target's weights, (out x in,)."""
        mask, weight = self.masks[name].kept, self.targets[name].weight
        if self.settings.method == "random":
            generator = Generator().manual_seed(derive_seed(self.seed, f"{name} pruned"))
            scores = torch.rand(weight.shape, generator=generator).to(weight.device)  # in [0, 1), above PRUNED_SCORE
        else:
            scores = weight.abs()
        # what is pruned has the lowest score, so that a ramp only adds
        return scores.where(mask, PRUNED_SCORE).flatten()

    def to_plain_module(self) -> nn.Module:
        return nn.Identity()

    def summary_metrics(self) -> dict[str, float]:
        remaining = total = 0
        for mask in self.masks.values():
            remaining += int(mask.kept.sum())
            total += mask.kept.numel()
        return {"sparsity": 1 - remaining / total}
