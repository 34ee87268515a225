"""Scoring of tokens: the nats of every target, in eval mode, with no effect on training."""

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from gptlab.corpus.corpus import TokenWindows, Windows
from gptlab.model.decoder import Decoder
from gptlab.model.eval_mode import eval_mode
from gptlab.model.shape import IGNORED

if TYPE_CHECKING:
    from gptlab.training.metric import Scores

MAX_LOGITS, MAX_TOKENS = 2**19, 2**11
"""Logits and tokens computed at once on a CPU, few enough for activations to stay in its cache: at micro size 2,048
tokens take 0.87 of the time of 8,192 (one thread, 2026-11-30).
"""
GPU_FACTOR = 16
"""Times as many on a GPU: 32 MiB of logits in float32 at most."""


def evaluate(
    decoder: Decoder,
    inputs: TokenWindows,
    targets: TokenWindows,
    bytes_per_token: np.ndarray,
    documents: np.ndarray | None = None,
) -> "Scores":
    """Return the scores of all targets, in order, for windows of inputs and targets (N, T).

    bytes_per_token  bytes of UTF-8 of each token of the vocabulary, (V,)
    documents        number of each input's document, (N, T), to be read as if alone; Windows bring their own
    """
    from gptlab.training.metric import Scores  # late: importing torchmetrics takes a second or more

    device = decoder.embedding.weight.device
    tokens = min(MAX_TOKENS, MAX_LOGITS // decoder.shape.vocab) * (1 if device.type == "cpu" else GPU_FACTOR)
    rows = max(1, tokens // inputs.shape[1])
    # cut by memory alone: each target is scored once and in order, however many rows fit
    parts = []
    with eval_mode(decoder):
        for start in range(0, len(inputs), rows):
            part = slice(start, start + rows)
            batch_targets = torch.from_numpy(targets[part]).to(device)
            numbers = None
            if documents is not None:
                numbers = documents[part]
            elif isinstance(inputs, Windows):
                numbers = inputs.number_documents(part)
            logits = decoder.forward(
                torch.from_numpy(inputs[part]).to(device),
                documents=None if numbers is None else torch.from_numpy(numbers).to(device),
            ).logits
            assert logits is not None
            parts.append(_score_targets(logits, batch_targets))
        # each of the three over all batches, (N,)
        nats, predicted, target = (torch.cat(batches) for batches in zip(*parts, strict=True))
        nbytes = torch.from_numpy(bytes_per_token.astype(np.int64)).to(device)[target]
    return Scores(nats, predicted, target, nbytes)


def _score_targets(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return nats, likeliest token and target of all targets that are not IGNORED, each (N,)."""
    is_scored = targets != IGNORED
    logits, targets = logits[is_scored].float(), targets[is_scored]
    # one number a target, not their mean: losses by position and by history are sums over parts of these
    return F.cross_entropy(logits, targets, reduction="none"), logits.argmax(-1), targets
