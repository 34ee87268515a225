"""The peak rate to the end."""

from gptlab.training.schedule import Schedule


class Constant(Schedule):
    """1 after warm-up."""

    def after(self, progress: float) -> float:
        return 1.0
