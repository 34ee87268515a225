"""What an evaluation reports beside the loss: torchmetrics over scored tokens."""

from typing import NamedTuple

from torch import Tensor
from torchmetrics import Metric


class Scores(NamedTuple):
    """Scored target tokens, each (N,): their nats, the likeliest token, the target, its bytes of UTF-8."""

    nats: Tensor
    predicted: Tensor
    target: Tensor
    nbytes: Tensor


class TokenMetric(Metric):
    """The slot's contract: update(scores), as often as wanted; compute() to a number."""

    full_state_update = False

    def update(self, scores: Scores) -> None:
        """Adds scored tokens."""
        raise NotImplementedError


class Ratio(TokenMetric):
    """The sum of one thing over the sum of another."""

    above: Tensor
    below: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("above", "below"):
            self.add_state(name, Tensor([0.0]).double().squeeze(), dist_reduce_fx="sum")

    def compute(self) -> Tensor:
        return self.above / self.below
