"""What turns hidden states into logits. It owns the loss, so softcaps, extra heads and fused kernels are its affair."""

import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.model.forward_pass import IGNORED, ForwardPass


class Readout(nn.Module):
    """The slot's contract: __init__(shape, embedding, *, knobs)."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, width) to logits (B, T, vocab)."""
        raise NotImplementedError

    def loss(self, x: Tensor, targets: Tensor, forward_pass: ForwardPass) -> Tensor:
        """(B, T, width), (B, T) to the mean nats per target token, in float32 or better; IGNORED ones are left out."""
        logits = self(x).flatten(0, 1)
        return F.cross_entropy(
            logits if logits.dtype.itemsize > 2 else logits.float(), targets.flatten(), ignore_index=IGNORED
        )
