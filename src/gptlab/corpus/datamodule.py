"""The corpus as a LightningDataModule: this process's micro-batches, from the step at which the trainer stands."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
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
    documents  number of the document of each input, (B, T); None where no borders are kept
    """

    inputs: Tensor
    targets: Tensor
    weight: float = 1.0
    documents: Tensor | None = None

    def split(self, parts: int) -> "list[Batch]":
        """Cut the rows into parts, each weighted by its share of the targets."""
        if parts == 1:
            return [self]
        pairs = [*zip(self.inputs.chunk(parts), self.targets.chunk(parts), strict=True)]
        counts = [int((targets != IGNORED).sum()) for _, targets in pairs]
        whole = max(1, sum(counts))
        documents = [None] * len(pairs) if self.documents is None else [*self.documents.chunk(parts)]
        return [
            Batch(*pair, self.weight * len(pairs) * count / whole, of_part)
            for pair, count, of_part in zip(pairs, counts, documents, strict=True)
        ]

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device."""
        return self._change(lambda tensor: tensor.to(device))

    def pin_memory(self) -> "Batch":
        """Return the batch in memory from which a GPU copies while it computes."""
        return self._change(Tensor.pin_memory)

    def take_rows(self, rows: slice) -> "Batch":
        """Return some of the rows."""
        return self._change(lambda tensor: tensor[rows])

    def _change(self, act: Callable[[Tensor], Tensor]) -> "Batch":
        documents = None if self.documents is None else act(self.documents)
        return Batch(act(self.inputs), act(self.targets), self.weight, documents)


def load_batch(corpus: Corpus, seed: int, step: int, rows: int, context: int) -> Batch:
    """Return the batch of a step of a corpus, counted from 0."""
    inputs, targets = corpus.make_batch(seed, step, rows, context)
    documents = corpus.number_batch(seed, step, rows, context)
    return Batch(torch.from_numpy(inputs), torch.from_numpy(targets), documents=convert_documents(documents))


def convert_documents(documents: np.ndarray | None) -> Tensor | None:
    """Return numbers of documents as a tensor, None for none."""
    return None if documents is None else torch.from_numpy(documents)


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
        return load_batch(self.corpus, self.seed, step, self.batch_size, self.context)

    def load_part(self, step: int, rank: int, size: int) -> Batch:
        """Return the rows of a step that are those of one process of `size`."""
        if self.corpus.weighs_rows:
            part = self.load_batch(step).split(size)[rank]
        else:  # the other rows are not even read
            share = self.batch_size // size
            rows = slice(rank * share, (rank + 1) * share)
            drawn = (self.seed, step, self.batch_size, self.context, rows)
            tokens, documents = torch.from_numpy(self.corpus.batch(*drawn)), self.corpus.number_batch(*drawn)
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
