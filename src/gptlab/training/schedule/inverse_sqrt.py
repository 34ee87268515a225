"""Inverse square root decay (Vaswani 2017, arXiv:1706.03762): sqrt(timescale / (timescale + t)).

t is the part of the run since warm-up. With a timescale as long as warm-up it is the original, sqrt(warmup / progress).
"""

from gptlab.training.schedule import Schedule


class InverseSqrt(Schedule):
    """Factor that falls with the root of time after warm-up.

    timescale  part of the run in which the rate falls to 0.71 of the peak; null takes warmup
    """

    def __init__(self, *, warmup: float = 0.05, timescale: float | None = None) -> None:
        super().__init__(warmup=warmup)
        if timescale is not None and timescale <= 0:
            raise ValueError(f"timescale={timescale} is not positive; null takes warmup={warmup}")
        if timescale is None and warmup == 0:
            raise ValueError("timescale=null takes warmup, and warmup=0.0 has no length; try timescale=0.05")
        self.timescale = timescale or warmup

    def after(self, progress: float) -> float:
        return (self.timescale / (self.timescale + progress * (1 - self.warmup))) ** 0.5
