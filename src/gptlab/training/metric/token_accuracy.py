"""Share of tokens where the likeliest one is the target."""

from gptlab.training.metric import Ratio, Scores


class TokenAccuracy(Ratio):
    """Token accuracy, in [0, 1]."""

    def update(self, scores: Scores) -> None:
        self.above += (scores.predicted == scores.target).sum()
        self.below += scores.target.numel()
