"""An exponential moving average of the weights, which is evaluated, sampled and kept in place of the last ones.

    a = decay a + (1 - decay) p        after each step, from the first weights on; a / (1 - decay^t) so weighs no start

(Polyak 1992; Tarvainen 2017, arXiv:1703.01780; Morwani 2025, arXiv:2502.02431.) Training knows nothing of it. It stands
in for a falling rate, so it gains most beside schedule=constant and least after a long decay.
"""

from typing import Any

import torch
from torch import Tensor

from gptlab.errors import Refused
from gptlab.training.callback import Callback


class Ema(Callback):
    """Average the weights over steps.

    decay  of the average a step; 0.99 looks back 100 steps or so
    """

    # its averages are tensors of a checkpoint, which under fsdp would be each process's shares
    needs_whole_matrices = True

    def __init__(self, *, decay: float = 0.99) -> None:
        if not 0 <= decay < 1:
            raise Refused(f"decay={decay} is not in [0, 1); 0 is the last weights")
        self.decay, self.steps, self.step = decay, 0, 0
        self.averages: dict[str, Tensor] = {}
        self.task: Any = None

    def on_train_start(self, trainer: Any, task: Any) -> None:
        self.task, self.step = task, trainer.global_step
        task.averagers.append(self)

    @torch.no_grad()
    def on_train_batch_end(self, trainer: Any, task: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:  # a micro-batch
            return
        self.step, self.steps = trainer.global_step, self.steps + 1
        for name, p in task.decoder.trainable_parameters():
            if name not in self.averages:
                self.averages[name] = torch.zeros_like(p)
            self.averages[name] = self.averages[name].to(p.device).lerp_(p.detach(), 1 - self.decay)

    def average_weights(self) -> list[tuple[Tensor, Tensor]]:
        """Return each weight with its average."""
        part = 1 - self.decay**self.steps  # that steps have in it; the rest is the zeros of its start
        named = dict(self.task.decoder.trainable_parameters())
        return [(named[name], average / part) for name, average in self.averages.items()]

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "averages": self.averages}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.steps, self.averages = state_dict["steps"], state_dict["averages"]
