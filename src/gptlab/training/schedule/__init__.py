"""Learning-rate schedules: a factor as a pure function of the progress.

Progress goes from 0 before the first step to 1 after the last, so a schedule is finished whenever the run is, in steps
or in minutes.
"""


class Schedule:
    """Contract of the slot.

    warmup  part of the run in which the rate rises linearly; 0 is none
    """

    def __init__(self, *, warmup: float = 0.05) -> None:
        if not 0 <= warmup < 1:
            raise ValueError(f"warmup={warmup} is not a part of the run in [0, 1)")
        self.warmup = warmup

    @property
    def trunk_warmup(self) -> int | None:
        """Steps of warm-up, where the factor is 1 from then on until a cooldown, whatever the steps of the run."""
        return None

    def plan_steps(self, steps: int) -> None:
        """Learn how many steps the run has; what is a function of the progress alone need not know."""

    def __call__(self, progress: float) -> float:
        """Return the factor of the peak rate at a progress in [0, 1]."""
        if progress < self.warmup:
            return progress / self.warmup
        return self.after((progress - self.warmup) / (1 - self.warmup))

    def mean(self) -> float:
        """Return the mean factor over a run, to 1 in 1,000: schedules of different means train at different rates."""
        return sum(self((k + 0.5) / 1000) for k in range(1000)) / 1000

    def after(self, progress: float) -> float:
        """Return the factor after warm-up; progress again from 0 to 1."""
        raise NotImplementedError
