"""How often the likeliest token is the right one."""

from gptlab.training.metric import Ratio, Scores


class TokenAccuracy(Ratio):
    """In [0, 1]."""

    def update(self, scores: Scores) -> None:
        self.above += (scores.predicted == scores.target).sum()
        self.below += scores.target.numel()
