"""The progress bar of training."""

import lightning

from gptlab.console.terminal import Terminal
from gptlab.training.task import Task


class ProgressBar(lightning.Callback):
    """Shows the terminal's bar while training runs; others advance it."""

    def __init__(self, terminal: Terminal, steps: int) -> None:
        self.terminal, self.steps = terminal, steps

    def on_train_start(self, trainer: lightning.Trainer, task: Task) -> None:
        self.terminal.start_bar(self.steps, trainer.global_step)

    def on_train_end(self, trainer: lightning.Trainer, task: Task) -> None:
        self.terminal.stop_bar()

    def on_exception(self, trainer: lightning.Trainer, task: Task, exception: BaseException) -> None:
        self.terminal.stop_bar()
