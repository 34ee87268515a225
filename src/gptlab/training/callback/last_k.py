"""The mean of the last few weights, which is evaluated, sampled and kept in place of the last ones.

    a = (w_t + w_(t - every) + ... + w_(t - (count - 1) every)) / count

(LAWA: Kaddour 2022, arXiv:2209.14981; Sanyal 2023, arXiv:2306.03241.) Weights are taken every so many steps, and all
that are there are averaged; before the first are taken, the weights are what they are. Training knows nothing of it. It
stands in for a falling rate, so it gains most beside schedule=constant.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gptlab.errors import Refused
from gptlab.training.callback import Callback


class LastK(Callback):
    """Average the last weights.

    every  steps from one that counts to the next
    count  how many are averaged; so many copies are held in memory
    """

    def __init__(self, *, every: int = 25, count: int = 8) -> None:
        for name, value in (("every", every), ("count", count)):
            if value < 1:
                raise Refused(f"{name}={value} is less than 1; give 1 or more")
        self.every, self.count, self.step = every, count, 0
        # oldest first, each by parameter name
        self.snapshots: list[dict[str, Tensor]] = []
        self.task: Any = None

    def on_train_start(self, trainer: Any, task: Any) -> None:
        self.task, self.step = task, trainer.global_step
        task.averagers.append(self)

    @torch.no_grad()
    def on_train_batch_end(self, trainer: Any, task: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:  # a micro-batch
            return
        self.step = trainer.global_step
        if self.step % self.every == 0:
            # copies: the optimizer changes weights in place
            weights = {name: p.detach().clone() for name, p in task.decoder.trainable_parameters()}
            self.snapshots = [*self.snapshots, weights][-self.count :]

    def average_weights(self) -> Sequence[tuple[Tensor, Tensor]]:
        """Return each weight with the mean of those that were taken."""
        if not self.snapshots:
            return []
        named = dict(self.task.decoder.trainable_parameters())
        pairs = []
        for name, p in named.items():
            # (snapshots, ...), on the device of the weight
            taken = torch.stack([snapshot[name].to(p.device) for snapshot in self.snapshots])
            pairs.append((p, taken.mean(0)))
        return pairs

    def state_dict(self) -> dict[str, Any]:
        return {"snapshots": self.snapshots}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.snapshots = state_dict["snapshots"]
