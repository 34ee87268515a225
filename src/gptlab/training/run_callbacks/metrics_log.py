"""The training log: a row of loss, gradient norm, learning rate and speed."""

import lightning

from gptlab.training.context import RunContext
from gptlab.training.run_callbacks import StepCallback
from gptlab.training.run_log import RunLog, gather_histograms
from gptlab.training.state import RunState, StepTimer
from gptlab.training.task import Task


class MetricsLog(StepCallback):
    """Writes a row each log_every steps and at the end: means over the steps since the last row.

    `peak_tokens_per_s`: tokens a second if all products ran at the device's peak, None where that is unknown.
    """

    def __init__(
        self, context: RunContext, log: RunLog, state: RunState, timer: StepTimer, peak_tokens_per_s: float | None
    ) -> None:
        self.settings, self.processes, self.terminal = context.settings, context.processes, context.terminal
        self.run_log, self.state, self.timer = log, state, timer
        self.peak_tokens_per_s = peak_tokens_per_s
        self.logged_step = 0

    def on_train_start(self, trainer: lightning.Trainer, task: Task) -> None:
        super().on_train_start(trainer, task)
        step = trainer.global_step
        # the sums in a checkpoint reach back to the last row before it
        self.logged_step = step - step % self.settings.log_every
        self.timer.start(step)

    def on_step_end(self, trainer: lightning.Trainer, task: Task) -> None:
        step = self.state.step
        if step % self.settings.log_every and not self.state.finished:
            return
        # each process has the mean over its part of the batches; parts are equal, so theirs is that of all
        values = self.processes.all_reduce_mean(task.means(step - self.logged_step))
        task.refuse_bad_value(values["train/loss"], step)
        self.logged_step = step
        self.timer.stop()
        # of the steps since the last row, which `stop` has just added
        step_ms = self.state.step_ms[-1]
        tokens_per_s = self.settings.batch_size * self.settings.model.context / step_ms * 1000
        values |= {
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "time/step_ms": step_ms,
            "throughput/tokens_per_s": tokens_per_s,
        }
        if self.peak_tokens_per_s:
            values["throughput/mfu"] = tokens_per_s / self.peak_tokens_per_s
        self.run_log.write_row(step, gather_histograms(values))
        speed = f"{tokens_per_s / 1000:.1f} k tokens/s"
        self.terminal.advance_bar(completed=step, loss=f"{values['train/loss']:.3f}", speed=speed)
