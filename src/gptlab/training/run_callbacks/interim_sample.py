"""A sample beside every interim evaluation, from the same random draws each time."""

import lightning
from rich.markup import escape

from gptlab.training.context import RunContext
from gptlab.training.run_callbacks import StepCallback
from gptlab.training.run_callbacks.interim_evaluation import InterimEvaluation
from gptlab.training.run_log import RunLog
from gptlab.training.sample_writer import SampleWriter
from gptlab.training.setup import TrainingSetup
from gptlab.training.state import RunState, StepTimer
from gptlab.training.task import Task


class InterimSample(StepCallback):
    """Writes one text after each interim evaluation, and prints a line with its loss and the start of the text."""

    def __init__(
        self,
        context: RunContext,
        setup: TrainingSetup,
        evaluation: InterimEvaluation,
        writer: SampleWriter,
        log: RunLog,
        state: RunState,
        timer: StepTimer,
    ) -> None:
        self.settings, self.terminal = context.settings, context.terminal
        self.training, self.evaluation, self.writer = setup, evaluation, writer
        self.run_log, self.state, self.timer = log, state, timer

    def on_step_end(self, trainer: lightning.Trainer, task: Task) -> None:
        step = self.state.step
        if step % self.settings.evaluation.every or self.state.finished:
            return
        with task.average_weights(), self.training.gather_weights():
            (sample,) = self.writer.write(self.training.decoder, 1, self.settings.sample.length)
        self.run_log.write_sample({**self.run_log.axes(), **sample})
        self._print(step, self.evaluation.loss, sample["text"])
        self.state.evaluate_s += self.timer.resume()

    def _print(self, step: int, loss: float, text: str) -> None:
        console = self.terminal.console
        width = max(20, min(60, console.width - 30)) if console.is_terminal else 60
        start = escape(" ".join(text.split())[:width])
        self.terminal.say(f"  step {step:>6,}   val [bold]{loss:.4f}[/]   [dim]{start}[/]")
