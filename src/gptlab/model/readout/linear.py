"""One Linear to the vocabulary: logits = head(x), then cap tanh(logits / cap) if capped (Gemma 2, arXiv:2408.00118).

tied    the head's weight is the embedding's (Press 2017, arXiv:1608.05859)        untied  it is its own
"""

import torch
from torch import Tensor, nn

from gptlab.model.readout import Readout
from gptlab.model.shape import Shape


class LinearReadout(Readout):
    """Linear head over the vocabulary.

    tied     the head's weight is the embedding's. It is a Linear all the same, so that FLOPs are counted and changes
             applied in one way
    softcap  cap of the logits; null caps nothing
    bias     of the head
    """

    def __init__(
        self,
        shape: Shape,
        embedding: nn.Embedding,
        *,
        tied: bool = True,
        softcap: float | None = None,
        bias: bool = False,
    ) -> None:
        super().__init__()
        if softcap is not None and softcap <= 0:
            raise ValueError(f"softcap={softcap} is not positive; null caps nothing")
        self.head = nn.Linear(shape.width, shape.vocab, bias)
        # one tensor under two names; named_parameters and the optimizer see it once
        if tied:
            self.head.weight = embedding.weight
        self.softcap = softcap

    def forward(self, x: Tensor) -> Tensor:
        logits = self.head(x)
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)
