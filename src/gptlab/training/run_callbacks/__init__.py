"""The run's own Lightning callbacks, one concern each. They act after every optimizer step, in this order:

stop_on_signal      a signal ends the run after the step, on all processes
time_limit          the schedule's end, by steps or by max_minutes
progress_bar        the live line in the terminal
metrics_log         a row of the training loss, rate and speed each log_every steps
interim_evaluation  loss on the validation split each evaluation.every steps, and the best weights
interim_sample      a text beside each interim evaluation
checkpoints         last.ckpt each save_every steps and at the end, with the run's state
branch_points       the same for shorter runs that branch off, in a folder of its own
"""

from typing import Any

import lightning

from gptlab.training.task import Task


class StepCallback(lightning.Callback):
    """Calls `on_step_end` once for each optimizer step; Lightning's own hook comes with every micro-batch."""

    last_step = 0

    def on_train_start(self, trainer: lightning.Trainer, task: Task) -> None:
        self.last_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: lightning.Trainer, task: Task, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # with accumulate > 1 the count moves at the last micro-batch only
        if trainer.global_step != self.last_step:
            self.last_step = trainer.global_step
            self.on_step_end(trainer, task)

    def on_step_end(self, trainer: lightning.Trainer, task: Task) -> None:
        """Act after an optimizer step."""
        raise NotImplementedError
