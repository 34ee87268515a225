"""The corpus as a LightningDataModule: this process's micro-batches, from the step at which the trainer stands."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from lightning import LightningDataModule

from gptlab.corpus.batch import Batch, convert_documents, load_batch
from gptlab.corpus.corpus import Corpus


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
        return load_batch(self.corpus, self.seed, step, rows=self.batch_size, context=self.context)

    def load_part(self, step: int, rank: int, size: int) -> Batch:
        """Return the rows of a step that are those of one process of `size`."""
        if self.corpus.weighs_rows or self.corpus.packing is not None:
            part = self.load_batch(step).split(size)[rank]
        else:  # the other rows are not even read
            share = self.batch_size // size
            rows = slice(rank * share, (rank + 1) * share)
            whole = (self.seed, step, self.batch_size, self.context)
            tokens = torch.from_numpy(self.corpus.batch(*whole, part=rows))
            documents = self.corpus.number_batch(*whole, part=rows)
            part = Batch(tokens[:, :-1], tokens[:, 1:], documents=convert_documents(documents))
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
