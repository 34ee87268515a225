"""Perplexity: e^(mean nats per token), the number of equally likely tokens that would surprise as much."""

from torch import Tensor

from gptlab.training.metric import Ratio, Scores


class Perplexity(Ratio):
    """Perplexity; 1 is perfect, equally likely tokens give the size of the vocabulary."""

    def update(self, scores: Scores) -> None:
        self.above += scores.nats.double().sum()
        self.below += scores.nats.numel()

    def compute(self) -> Tensor:
        return super().compute().exp()
