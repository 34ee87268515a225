"""Warm-up, stable, decay: the peak rate, which a last part of the run takes to `floor` (Hu 2024, arXiv:2404.06395).

The floor is that of schedule=cosine and schedule=linear. The mean rate is not: 0.885 of the peak, where theirs is 0.55.

linear          1 - (1 - floor) x                   with x in [0, 1] the way through the decay
one_minus_sqrt  1 - (1 - floor) sqrt(x)             sinks at once, ends flat (Hägele 2024, arXiv:2405.18392)
"""

from typing import Literal

from gptlab.training.schedule import Schedule


class WarmupStableDecay(Schedule):
    """Constant factor with a decay at the end.

    decay  part of the whole run in which the rate falls, as warmup is
    floor  last factor
    shape  of the decay: linear or one_minus_sqrt
    """

    def __init__(
        self,
        *,
        warmup: float = 0.05,
        decay: float = 0.2,
        floor: float = 0.1,
        shape: Literal["linear", "one_minus_sqrt"] = "linear",
    ) -> None:
        super().__init__(warmup=warmup)
        if not 0 < decay <= 1 - warmup:
            raise ValueError(f"decay={decay} is not in (0, {1 - warmup:g}], which warmup={warmup} leaves of the run")
        if not 0 <= floor <= 1:
            raise ValueError(f"floor={floor} is not a part of the peak in [0, 1]")
        self.decay, self.floor, self.shape = decay, floor, shape

    def after(self, progress: float) -> float:
        # `progress` counts from the end of warm-up, `decay` is a part of the whole run
        remaining = (1 - progress) * (1 - self.warmup)
        decay_progress = max(0.0, 1 - remaining / self.decay)
        return 1 - (1 - self.floor) * (decay_progress if self.shape == "linear" else decay_progress**0.5)
