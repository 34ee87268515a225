"""Warm-up, stable, decay: the peak rate, which a last part of the run takes to `floor` (Hu 2024, arXiv:2404.06395).

The floor is that of schedule=cosine and schedule=linear. The mean rate is not: 0.885 of the peak, where theirs is 0.55.

linear          1 - (1 - floor) x                   with x in [0, 1] the way through the decay
one_minus_sqrt  1 - (1 - floor) sqrt(x)             sinks at once, ends flat (Hägele 2024, arXiv:2405.18392)

Warm-up takes a whole number of steps. Runs that have it in common, whatever their steps, are one run until a cooldown
begins, and can branch off one trunk (training/branching/trunk.py).
"""

from typing import Literal

from gptlab.training.schedule import Schedule


class WarmupStableDecay(Schedule):
    """Constant factor with a decay at the end.

    decay         part of the whole run in which the rate falls, as warmup is
    floor         last factor
    shape         of the decay: linear or one_minus_sqrt
    warmup_steps  in place of warmup: steps in which the rate rises; null takes warmup
    """

    def __init__(
        self,
        *,
        warmup: float = 0.05,
        decay: float = 0.2,
        floor: float = 0.1,
        shape: Literal["linear", "one_minus_sqrt"] = "linear",
        warmup_steps: int | None = None,
    ) -> None:
        super().__init__(warmup=warmup)
        if warmup_steps is not None and warmup_steps < 0:
            raise ValueError(f"warmup_steps={warmup_steps} is negative; 0 is none")
        if warmup_steps is None and not 0 < decay <= 1 - warmup:
            raise ValueError(f"decay={decay} is not in (0, {1 - warmup:g}], which warmup={warmup} leaves of the run")
        if not 0 < decay <= 1:
            raise ValueError(f"decay={decay} is not a part of the run in (0, 1]; try 0.2")
        if not 0 <= floor <= 1:
            raise ValueError(f"floor={floor} is not a part of the peak in [0, 1]")
        self.decay, self.floor, self.shape = decay, floor, shape
        self.warmup_steps = warmup_steps
        self.steps = 0

    @property
    def trunk_warmup(self) -> int | None:
        return self.warmup_steps

    def plan_steps(self, steps: int) -> None:
        if self.warmup_steps is None:
            # as a number of steps, which a longer run of the same trunk shares
            self.warmup_steps = int(self.warmup * (steps + 1))
        self.steps, self.warmup = steps, self.warmup_steps / (steps + 1)
        if self.warmup + self.decay > 1 + 1e-9:
            raise ValueError(
                f"warmup_steps={self.warmup_steps} and decay={self.decay} are more than the {steps} steps of the run; "
                "give less, or more steps"
            )

    def __call__(self, progress: float) -> float:
        if not self.steps:
            return super().__call__(progress)
        # (k + 1) / (steps + 1) times steps + 1 is k + 1 up to the last bit, which must not depend on steps
        done = round(progress * (self.steps + 1), 6)
        if done < (self.warmup_steps or 0):
            return done / (self.warmup_steps or 1)
        return self.after((progress - self.warmup) / (1 - self.warmup))

    def after(self, progress: float) -> float:
        # `progress` counts from the end of warm-up, `decay` is a part of the whole run
        remaining = (1 - progress) * (1 - self.warmup)
        decay_progress = max(0.0, 1 - remaining / self.decay)
        return 1 - (1 - self.floor) * (decay_progress if self.shape == "linear" else decay_progress**0.5)
