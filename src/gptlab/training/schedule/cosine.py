"""Half a cosine from the peak to `floor` of it (Loshchilov 2016, arXiv:1608.03983)."""

import math

from gptlab.training.schedule import Schedule


class Cosine(Schedule):
    """Factor floor + (1 - floor) (1 + cos(pi progress)) / 2 after warm-up.

    floor  last factor
    """

    def __init__(self, *, warmup: float = 0.05, floor: float = 0.1) -> None:
        super().__init__(warmup=warmup)
        if not 0 <= floor <= 1:
            raise ValueError(f"floor={floor} is not a part of the peak in [0, 1]")
        self.floor = floor

    def after(self, progress: float) -> float:
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * progress)) / 2
