"""Eval mode without gradients, as a context manager."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def eval_mode(decoder: nn.Module) -> Iterator[None]:
    """Switch to eval mode without gradients, and back to the old mode after."""
    was_training = decoder.training
    if was_training:  # to walk over all modules takes 0.5 ms, twice for each token that is written
        decoder.eval()
    try:
        # cheaper than no_grad: its tensors keep no version counter, and may not enter autograd later
        with torch.inference_mode():
            yield
    finally:
        if was_training:
            decoder.train()
