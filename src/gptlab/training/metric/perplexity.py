"""Perplexity: e^(mean nats per token), the number of equally likely tokens that would surprise as much."""

from torch import Tensor

from gptlab.training.metric import Ratio, Scores


class Perplexity(Ratio):
    """1 is perfect, the vocabulary's size is blind."""

    def update(self, scores: Scores) -> None:
        self.above += scores.nats.double().sum()
        self.below += scores.nats.numel()

    def compute(self) -> Tensor:
        return super().compute().exp()
