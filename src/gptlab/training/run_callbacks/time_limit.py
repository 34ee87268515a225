"""The end of training: by steps, or by the time that max_minutes leaves."""

import lightning

from gptlab.training.distributed.process_group import ProcessGroup
from gptlab.training.run_callbacks import StepCallback
from gptlab.training.state import RunState
from gptlab.training.task import Task


class TimeLimit(StepCallback):
    """Keeps the step and the elapsed time, on which all processes agree, and ends the run with its schedule."""

    def __init__(self, state: RunState, processes: ProcessGroup) -> None:
        self.state, self.processes = state, processes

    def on_train_start(self, trainer: lightning.Trainer, task: Task) -> None:
        super().on_train_start(trainer, task)
        self.state.step = trainer.global_step

    def on_step_end(self, trainer: lightning.Trainer, task: Task) -> None:
        self.state.step = trainer.global_step
        if task.seconds is not None:
            # clocks differ by a little, and a schedule that differs by process would tear the weights apart
            (task.time,) = self.processes.all_reduce_max(task.measure_elapsed_s())
        self.state.finished = task.progress() >= 1
        if self.state.finished:
            trainer.should_stop = True
