"""The corpus as a LightningDataModule: this process's micro-batches, from the step at which the trainer stands."""

from collections.abc import Iterator

import torch
from lightning import LightningDataModule
from torch import Tensor

from gptlab.corpus.corpus import Corpus


class DataModule(LightningDataModule):
    """Yields micro-batches; batch k is the same whatever processes and micro-batches share it, resumed or not."""

    def __init__(self, corpus: Corpus, *, seed: int, batch_size: int, context: int, accumulate: int = 1) -> None:
        super().__init__()
        self.corpus, self.seed = corpus, seed
        self.batch_size, self.context, self.accumulate = batch_size, context, accumulate

    def load_batch(self, step: int) -> Tensor:
        """Return the (batch_size, context + 1) tokens of a step, counted from 0."""
        return torch.from_numpy(self.corpus.batch(self.seed, step, self.batch_size, self.context))

    def train_dataloader(self) -> "DataModule":
        return self

    def __iter__(self) -> Iterator[Tensor]:
        assert self.trainer is not None
        rank, size = self.trainer.global_rank, self.trainer.world_size
        step = self.trainer.global_step
        while True:
            yield from self.load_batch(step).chunk(size)[rank].chunk(self.accumulate)
            step += 1
