"""Course of a run so far. It is saved in every checkpoint, so that a resumed run goes on as if unbroken."""

import time
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class RunState:
    """The course of a run so far; times in seconds.

    finished       the schedule is at its end, by steps or by time
    best_loss      lowest loss of an interim evaluation, and its step
    step_ms        milliseconds a step, one value for each row of the log
    rows, samples  written so far: a resumed run drops what was written after its checkpoint
    """

    step: int = 0
    finished: bool = False
    best_loss: float | None = None
    best_step: int = 0
    step_ms: list[float] = field(default_factory=list)
    train_s: float = 0.0
    evaluate_s: float = 0.0
    rows: int = 0
    samples: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the state as plain values."""
        return asdict(self)

    def restore(self, saved: dict[str, Any]) -> None:
        """Set the state to that of a checkpoint."""
        for name, value in saved.items():
            setattr(self, name, value)


class StepTimer:
    """Times training steps, apart from the evaluations and checkpoints between them."""

    def __init__(self, state: RunState) -> None:
        self.state = state
        self.start(0)

    def start(self, step: int) -> None:
        """Begin at a step."""
        self.timed_step, self.mark = step, time.perf_counter()

    def stop(self) -> None:
        """Book the steps since the mark, and set the mark anew."""
        now = time.perf_counter()
        self.state.train_s += now - self.mark
        if self.state.step > self.timed_step:
            # a value for each row, not each step: evaluations and saves between rows stay out of the median
            self.state.step_ms.append((now - self.mark) * 1000 / (self.state.step - self.timed_step))
        self.timed_step, self.mark = self.state.step, now

    def seconds_since_mark(self) -> float:
        """Return the seconds since the mark."""
        return time.perf_counter() - self.mark

    def resume(self) -> float:
        """Set the mark anew and return the seconds since the old one, which are not training."""
        seconds, self.mark = self.seconds_since_mark(), time.perf_counter()
        return seconds
