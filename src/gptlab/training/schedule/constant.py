"""Constant learning rate after warm-up."""

from gptlab.training.schedule import Schedule


class Constant(Schedule):
    """Factor 1 after warm-up."""

    def after(self, progress: float) -> float:
        return 1.0
