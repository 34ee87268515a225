"""Stop on a signal: it sets a flag, and the run saves and stops at the end of that step, on all processes."""

import signal
from typing import Any

import lightning

from gptlab.console.terminal import Terminal
from gptlab.training.distributed.process_group import ProcessGroup
from gptlab.training.run_callbacks import StepCallback
from gptlab.training.task import Task

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Ctrl-C, a polite kill, a closed terminal, and what clusters send before a time limit.

Under Slurm Lightning takes SIGUSR1 too, to save by its own means and queue again; training takes it from there.
"""


class Stopped(BaseException):
    """A signal that ends the run at once, outside training."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


def raise_stopped(number: int, _: Any) -> None:
    """Handle a signal by raising Stopped."""
    raise Stopped(number)


class StopOnSignal(StepCallback):
    """Handles SIGNALS while training runs. `signal`: the one that all processes agreed to stop for, or 0."""

    def __init__(self, processes: ProcessGroup, terminal: Terminal) -> None:
        self.processes, self.terminal = processes, terminal
        self.received = 0  # by this process alone
        self.signal = 0
        self.previous_handlers: dict[Any, Any] = {}

    def on_train_start(self, trainer: lightning.Trainer, task: Task) -> None:
        super().on_train_start(trainer, task)
        self.previous_handlers = {number: signal.signal(number, self._receive) for number in SIGNALS}

    def on_step_end(self, trainer: lightning.Trainer, task: Task) -> None:
        # each step asks all: a launcher may signal one process only, and a lone stop would leave the others waiting
        (agreed,) = self.processes.all_reduce_max(self.received)
        self.signal = int(agreed)
        if self.signal:
            trainer.should_stop = True

    def on_train_end(self, trainer: lightning.Trainer, task: Task) -> None:
        self.restore_handlers()

    def on_exception(self, trainer: lightning.Trainer, task: Task, exception: BaseException) -> None:
        self.restore_handlers()  # before Lightning gives back the signals that it took

    def restore_handlers(self) -> None:
        """Restore the signal handlers of before."""
        for number, handler in self.previous_handlers.items():
            signal.signal(number, handler)
        self.previous_handlers = {}

    def _receive(self, number: int, _: Any) -> None:
        self.received = number
        signal.signal(number, signal.default_int_handler)  # a second one ends at once
        self.terminal.advance_bar(speed="stopping after this step")
