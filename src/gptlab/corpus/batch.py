"""A batch of rows to learn from. Without lightning: studies that only time steps start two seconds sooner."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
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
        inputs, targets = self.inputs.chunk(parts), self.targets.chunk(parts)
        documents = [None] * len(inputs) if self.documents is None else self.documents.chunk(parts)
        counts = [int((part != IGNORED).sum()) for part in targets]
        whole = max(1, sum(counts))
        batches = []
        for part, count in enumerate(counts):
            # a part's mean counts for as much as it has targets: the sum over parts is the mean over the whole batch
            weight = self.weight * len(counts) * count / whole
            batches.append(Batch(inputs[part], targets[part], weight, documents[part]))
        return batches

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
