"""The interim evaluation: loss and metrics on the same tokens each time, and the best weights so far."""

import lightning

from gptlab.runs.checkpoint import CheckpointWriter
from gptlab.training.context import RunContext
from gptlab.training.evaluator import Evaluator
from gptlab.training.run_callbacks import StepCallback
from gptlab.training.run_log import RunLog
from gptlab.training.setup import TrainingSetup
from gptlab.training.state import RunState, StepTimer
from gptlab.training.task import Task


class InterimEvaluation(StepCallback):
    """Evaluates each evaluation.every steps, except at the end, which the final evaluation scores."""

    def __init__(
        self,
        context: RunContext,
        setup: TrainingSetup,
        evaluator: Evaluator,
        log: RunLog,
        writer: CheckpointWriter,
        state: RunState,
        timer: StepTimer,
    ) -> None:
        self.context, self.training, self.evaluator = context, setup, evaluator  # `setup` is a hook of Lightning's
        self.run_log, self.writer, self.state, self.timer = log, writer, state, timer
        self.loss = float("nan")  # of the last evaluation

    def on_step_end(self, trainer: lightning.Trainer, task: Task) -> None:
        step = self.state.step
        if step % self.context.settings.evaluation.every or self.state.finished:
            return
        self.timer.stop()
        with task.average_weights(), self.training.numerics(), self.training.gather_weights():
            values = self.evaluator.compute_values(self.evaluator.score_interim(self.training.decoder))
            values |= self.evaluator.score_tasks(self.training.decoder)
            values |= self.evaluator.score_answers(self.training.decoder, final=False)
        task.refuse_bad_value(values["val/loss"], step)
        # so that all processes agree whether these weights are the best
        values = self.context.processes.broadcast(values)
        self.loss = values["val/loss"]
        self.run_log.write_row(step, {**values, "time/evaluate_s": self.timer.seconds_since_mark()})
        if self.state.best_loss is None or self.loss < self.state.best_loss:
            self.state.best_loss, self.state.best_step = self.loss, step
            # weights alone: nobody resumes from the best step, and moments are twice as large
            with task.average_weights():
                self.writer.save(trainer, "best", weights_only=True)
        self.state.evaluate_s += self.timer.resume()
