"""One training step outside Lightning, for everything that times a step: the probe, studies and benchmarks."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from gptlab.model.decoder import Decoder


def take_training_step(
    decoder: Decoder,
    optimizer: torch.optim.Optimizer,
    batch: Tensor,
    accumulate: int,
    numerics: Callable[[], AbstractContextManager[object]],
) -> None:
    """Forward, backward and update on a batch of (B, T + 1) tokens, in `accumulate` micro-batches.

    `numerics` opens the precision of the forward pass. Gradients are summed rather than averaged, and there is no
    clipping: a step with lr = 0 takes as long, and leaves the weights as they are.
    """
    for micro_batch in batch.chunk(accumulate):
        with numerics():
            output = decoder(micro_batch[:, :-1], micro_batch[:, 1:])
        (output.loss + sum(output.losses.values())).backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
