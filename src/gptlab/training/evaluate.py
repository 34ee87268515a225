"""Scores tokens: the nats of every target, in eval mode, with no effect on training."""

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from gptlab.corpus.corpus import Windows
from gptlab.model.decoder import Decoder
from gptlab.model.eval_mode import eval_mode
from gptlab.model.forward_pass import IGNORED

if TYPE_CHECKING:
    from gptlab.training.metric import Scores

LOGITS = 2**19
"""Logits held at once on a CPU, few enough for activations to stay in its cache: at micro size 13 us a token, where
2^23 took 36 (two threads of a busy machine, 2026-11-22)."""
MORE = 16
"""Times as many on a GPU: 32 MiB in float32."""
Rows = np.ndarray | Windows
"""(N, T) of int64, at hand or made as they are asked for."""


def evaluate(decoder: Decoder, inputs: Rows, targets: Rows, lengths: np.ndarray) -> "Scores":
    """Windows (N, T) of inputs and targets, and each token's bytes (V,), to the scores of all targets, in order."""
    from gptlab.training.metric import (
        Scores,  # late: torchmetrics takes a second or more, which writing need not wait for
    )

    device = decoder.embedding.weight.device
    held = LOGITS * (1 if device.type == "cpu" else MORE)
    rows = max(1, held // (decoder.shape.vocab * inputs.shape[1]))
    parts = []
    with eval_mode(decoder):
        for start in range(0, len(inputs), rows):
            wanted = torch.from_numpy(targets[start : start + rows]).to(device)
            logits = decoder.forward(torch.from_numpy(inputs[start : start + rows]).to(device)).logits
            assert logits is not None
            parts.append(_score(logits, wanted))
        nats, predicted, target = (torch.cat(part) for part in zip(*parts, strict=True))
        nbytes = torch.from_numpy(lengths.astype(np.int64)).to(device)[target]
    return Scores(nats, predicted, target, nbytes)


def _score(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    scored = targets != IGNORED
    logits, targets = logits[scored].float(), targets[scored]
    return F.cross_entropy(logits, targets, reduction="none"), logits.argmax(-1), targets
