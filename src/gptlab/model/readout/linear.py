"""One Linear to the vocabulary: logits = head(x), then cap tanh(logits / cap) if capped (Gemma 2, arXiv:2408.00118).

z_loss adds weight x mean of log(sum exp logits)^2 to what is trained on, which keeps logits from drifting (PaLM,
arXiv:2204.02311: 1e-4).

mtp > 0 predicts tokens beyond the next one in training too, each by a layer of its own and the same head: see
multi_token.py (DeepSeek-V3, arXiv:2412.19437: mtp = 1, mtp_weight = 0.3 and later 0.1). Evaluation leaves them out;
`sample --draft self` has them guess.

tied    the head's weight is the embedding's (Press 2017, arXiv:1608.05859)        untied  it is its own
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.model.forward_pass import ForwardPass
from gptlab.model.readout import Readout
from gptlab.model.shape import IGNORED, Shape


class LinearReadout(Readout):
    """Linear head over the vocabulary.

    tied     the head's weight is the embedding's. It is a Linear all the same, so that FLOPs are counted and changes
             applied in one way
    softcap  cap of the logits; null caps nothing
    z_loss   weight of the loss that keeps the logits' normalizer near 1; 0 turns it off
    mtp      tokens beyond the next one that are predicted in training; 0 is none
    mtp_weight  of the mean of their losses
    bias     of the head
    """

    def __init__(
        self,
        shape: Shape,
        embedding: nn.Embedding,
        *,
        tied: bool = True,
        softcap: float | None = None,
        z_loss: float = 0.0,
        mtp: int = 0,
        mtp_weight: float = 0.3,
        bias: bool = False,
    ) -> None:
        super().__init__()
        if softcap is not None and softcap <= 0:
            raise ValueError(f"softcap={softcap} is not positive; null caps nothing")
        if z_loss < 0:
            raise ValueError(f"z_loss={z_loss} is negative; 0 turns it off")
        if not 0 <= mtp < shape.context:
            raise ValueError(
                f"mtp={mtp} is not in 0 .. {shape.context - 1}, the tokens that a context has further ahead"
            )
        if mtp_weight < 0:
            raise ValueError(f"mtp_weight={mtp_weight} is negative; mtp=0 predicts no further than the next token")
        self.head = nn.Linear(shape.width, shape.vocab, bias)
        # one tensor under two names; named_parameters and the optimizer see it once
        if tied:
            self.head.weight = embedding.weight
        self.softcap, self.z_loss, self.mtp, self.mtp_weight = softcap, z_loss, mtp, mtp_weight

    def forward(self, x: Tensor) -> Tensor:
        logits = self.head(x)
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

    def loss(self, x: Tensor, targets: Tensor, forward_pass: ForwardPass) -> Tensor:
        if not self.z_loss:
            return super().loss(x, targets, forward_pass)
        logits, scored = self(x), targets != IGNORED
        # squares of bfloat16 would carry two digits
        logits = logits if logits.dtype.itemsize > 2 else logits.float()
        normalizers = logits.logsumexp(-1)  # (B, T)
        forward_pass.losses["z_loss"] = self.z_loss * (normalizers.square() * scored).sum() / scored.sum()
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
