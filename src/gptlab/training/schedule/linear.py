"""A straight line from the peak to `floor` of it; to zero is best at fixed length (Bergsma 2025, arXiv:2502.15938).

Departure: the floor is 0.1 by default, as those of cosine and wsd, so that these arms differ by their shape alone.
"""

from gptlab.training.schedule import Schedule


class Linear(Schedule):
    """Factor 1 - (1 - floor) progress after warm-up.

    floor  last factor
    """

    def __init__(self, *, warmup: float = 0.05, floor: float = 0.1) -> None:
        super().__init__(warmup=warmup)
        if not 0 <= floor <= 1:
            raise ValueError(f"floor={floor} is not a part of the peak in [0, 1]")
        self.floor = floor

    def after(self, progress: float) -> float:
        return 1 - (1 - self.floor) * progress
