"""Readout: hidden states to logits. It owns the loss, so softcaps and fused kernels belong here."""

import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.model.forward_pass import ForwardPass
from gptlab.model.shape import IGNORED


class Readout(nn.Module):
    """Contract of the slot: __init__(shape, embedding, *, knobs).

    mtp         tokens beyond the next one that are predicted in training, by layers that the decoder builds
    mtp_weight  of the mean of their losses
    """

    mtp: int = 0
    mtp_weight: float = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, width) to logits (B, T, vocab)."""
        raise NotImplementedError

    def loss(self, x: Tensor, targets: Tensor, forward_pass: ForwardPass) -> Tensor:
        """Return the mean nats per target token, in float32 or better, for x (B, T, width) and targets (B, T).

        Targets that are IGNORED are left out.
        """
        # (B T, vocab), the largest tensor of a step
        logits = self(x).flatten(0, 1)
        # 16 bits are too few for a sum over the vocabulary
        logits = logits if logits.dtype.itemsize > 2 else logits.float()
        return F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORED)
