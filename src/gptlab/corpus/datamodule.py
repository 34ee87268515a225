"""The corpus as a LightningDataModule: this process's micro-batches, from the step at which the trainer stands."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from lightning import LightningDataModule
from torch import Tensor

from gptlab.corpus.corpus import Corpus
from gptlab.model.shape import IGNORED


class Batch(NamedTuple):
    """Rows to learn from.

    inputs   tokens, (B, T)
    targets  the token to be said at each place, (B, T), or IGNORED
    weight   of these rows' mean loss in that of the whole batch, times the number of parts; 1 where all have as many
             targets
    """

    inputs: Tensor
    targets: Tensor
    weight: float = 1.0

    def split(self, parts: int) -> "list[Batch]":
        """Cut the rows into parts, each weighted by its share of the targets."""
        if parts == 1:
            return [self]
        pairs = [*zip(self.inputs.chunk(parts), self.targets.chunk(parts), strict=True)]
        counts = [int((targets != IGNORED).sum()) for _, targets in pairs]
        whole = max(1, sum(counts))
        return [
            Batch(*pair, self.weight * len(pairs) * count / whole) for pair, count in zip(pairs, counts, strict=True)
        ]

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device."""
        return Batch(self.inputs.to(device), self.targets.to(device), self.weight)

    def pin_memory(self) -> "Batch":
        """Return the batch in memory from which a GPU copies while it computes."""
        return Batch(self.inputs.pin_memory(), self.targets.pin_memory(), self.weight)


class DataModule(LightningDataModule):
    """Yields micro-batches; batch k is the same whatever processes and micro-batches share it, resumed or not.

    pinned  batches lie in memory from which a GPU copies while it computes
    """

    def __init__(
        self,
        corpus: Corpus,
        *,
        seed: int,
        batch_size: int,
        context: int,
        accumulate: int = 1,
        pinned: bool = False,
    ) -> None:
        super().__init__()
        self.pinned = pinned
        self.corpus, self.seed = corpus, seed
        self.batch_size, self.context, self.accumulate = batch_size, context, accumulate

    def load_batch(self, step: int) -> Batch:
        """Return the batch of a step, counted from 0."""
        inputs, targets = self.corpus.make_batch(self.seed, step, self.batch_size, self.context)
        return Batch(torch.from_numpy(inputs), torch.from_numpy(targets))

    def load_part(self, step: int, rank: int, size: int) -> Batch:
        """Return the rows of a step that are those of one process of `size`."""
        if self.corpus.weighs_rows:
            part = self.load_batch(step).split(size)[rank]
        else:  # the other rows are not even read
            share = self.batch_size // size
            tokens = torch.from_numpy(
                self.corpus.batch(
                    self.seed, step, self.batch_size, self.context, slice(rank * share, (rank + 1) * share)
                )
            )
            part = Batch(tokens[:, :-1], tokens[:, 1:])
        return part.pin_memory() if self.pinned else part

    def train_dataloader(self) -> "DataModule":
        return self

    def __iter__(self) -> Iterator[Batch]:
        assert self.trainer is not None
        rank, size = self.trainer.global_rank, self.trainer.world_size
        # read when iteration begins: a resumed trainer stands at its checkpoint's step by then
        step = self.trainer.global_step
        # the next batch is read while the device computes this one
        with ThreadPoolExecutor(1, thread_name_prefix="next-batch") as reader:
            following = reader.submit(self.load_part, step, rank, size)
            while True:
                batch, step = following.result(), step + 1
                following = reader.submit(self.load_part, step, rank, size)
                yield from batch.split(self.accumulate)
