"""Checkpoints: last.ckpt and previous.ckpt, with the run's state inside."""

import time
from typing import Any

import lightning

from gptlab.runs.checkpoint import CheckpointWriter
from gptlab.training.context import RunContext
from gptlab.training.run_callbacks import StepCallback
from gptlab.training.state import RunState, StepTimer
from gptlab.training.task import Task

STATE_KEY = "run"
"""Where the run's state stands among the callbacks of a checkpoint."""


class Checkpoints(StepCallback):
    """Saves each save_every steps, after save_minutes if they come first, and whenever training stops.

    A thread writes while training goes on; the end of training waits for it.

    It comes last, so that what it saves knows of all rows that were written at the step. `saved_step`: of the last one.
    """

    def __init__(self, context: RunContext, writer: CheckpointWriter, state: RunState, timer: StepTimer) -> None:
        self.context, self.writer, self.state, self.timer = context, writer, state, timer
        self.saved_step = 0
        self.saved_time = time.monotonic()

    @property
    def state_key(self) -> str:
        """The name of the run's state in a checkpoint."""
        return STATE_KEY

    def state_dict(self) -> dict[str, Any]:
        return self.state.to_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.state.restore(state_dict)

    def on_train_start(self, trainer: lightning.Trainer, task: Task) -> None:
        super().on_train_start(trainer, task)
        self.saved_step, self.saved_time = trainer.global_step, time.monotonic()

    def on_step_end(self, trainer: lightning.Trainer, task: Task) -> None:
        is_due = self.state.step % self.context.settings.save_every == 0 or self.is_time_due()
        # whatever stops the run, its end is saved
        if not is_due and not trainer.should_stop:
            return
        # saving is no part of a step: the timer stops before it and goes on after
        self.timer.stop()
        if self.state.finished:
            task.keep_average_weights()  # what is evaluated and kept
        task.share_sums(self.context.processes.all_reduce_mean)
        task.refuse_bad_sums()  # on a GPU nobody has looked since the last log line
        self.writer.save(trainer, "last")
        self.saved_step, self.saved_time = self.state.step, time.monotonic()
        self.timer.resume()

    def on_train_end(self, trainer: lightning.Trainer, task: Task) -> None:
        self.writer.wait()

    def on_exception(self, trainer: lightning.Trainer, task: Task, exception: BaseException) -> None:
        self.writer.wait_after_error()

    def is_time_due(self) -> bool:
        """Return whether save_minutes have passed since the last checkpoint; all processes agree."""
        minutes = self.context.settings.save_minutes
        if minutes is None:
            return False
        (elapsed_s,) = self.context.processes.all_reduce_max(time.monotonic() - self.saved_time)
        return elapsed_s >= 60 * minutes
