"""One training step outside Lightning, for everything that times a step: the probe, studies and benchmarks."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

import torch

from gptlab.corpus.batch import Batch
from gptlab.model.decoder import Decoder


def make_resting_optimizer(
    make: Callable[..., torch.optim.Optimizer], named: Iterable[tuple[str, torch.nn.Parameter]]
) -> torch.optim.Optimizer:
    """Return an optimizer whose steps take as long as those of training, and leave the weights as they are."""
    optimizer = make(named)
    # of every group: an optimizer may have several rates, as Muon, whose adam_lr is not its lr
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    return optimizer


def take_training_step(
    decoder: Decoder,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    accumulate: int,
    numerics: Callable[[], AbstractContextManager[object]],
) -> None:
    """Forward, backward and update on a batch, in `accumulate` micro-batches.

    `numerics` opens the precision of the forward pass. Gradients are summed rather than averaged, and there is no
    clipping: a step with lr = 0 takes as long, and leaves the weights as they are.
    """
    for part in batch.split(accumulate):
        with numerics():
            output = decoder(part.inputs, part.targets, documents=part.documents)
        (output.loss + sum(output.losses.values())).backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
