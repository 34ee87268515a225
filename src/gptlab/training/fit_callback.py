"""What happens after each optimiser step, in this order: log, evaluate and sample, save, stop."""

import signal
import time
from collections.abc import Callable
from typing import Any

from lightning import Callback, Trainer
from rich.markup import escape

from gptlab.config.recipe import Settings
from gptlab.console.terminal import Terminal
from gptlab.runs import checkpoint
from gptlab.runs.record import RunFolder
from gptlab.runs.tracker import Histogram, Tracker
from gptlab.training.distributed import Ranks
from gptlab.training.task import Task

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a polite kill, a closed terminal."""


class Rounds(Callback):
    """Writes rows to the record and its mirror; keeps the checkpoints; ends at a signal or when the time is up. All
    ranks do the same at the same steps. full_speed: tokens a second if all products ran at their peak."""

    def __init__(
        self,
        settings: Settings,
        record: RunFolder,
        mirror: Tracker,
        terminal: Terminal,
        ranks: Ranks,
        evaluate: Callable[[], dict[str, float]],
        sample: Callable[[], dict[str, Any]],
    ) -> None:
        self.settings, self.record, self.mirror, self.terminal = settings, record, mirror, terminal
        self.ranks, self.evaluate, self.sample = ranks, evaluate, sample
        self.full_speed: float | None = None
        self.signal = 0  # that this process got; what all know of at the end of a step ends it
        self.stopped = 0
        self.state: dict[str, Any] = {
            "over": False,  # the schedule is finished, by steps or by time
            "best": None,
            "best_step": 0,
            "step_ms": [],
            "evaluate_s": 0.0,
            "train_s": 0.0,
            "written": [0, 0],  # rows of metrics, samples
        }
        self.step = self.logged = self.saved = 0

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.state = state_dict

    def on_train_start(self, trainer: Trainer, task: Task) -> None:
        self.step = self.saved = trainer.global_step
        self.logged = self.step - self.step % self.settings.log_every
        self.timed, self.mark = self.step, time.perf_counter()
        self.handlers = {number: signal.signal(number, self._note) for number in SIGNALS}
        self.terminal.start(self.settings.steps, self.step)

    def on_train_end(self, trainer: Trainer, task: Task) -> None:
        self.close()

    def on_exception(self, trainer: Trainer, task: Task, exception: BaseException) -> None:
        self.close()  # before Lightning gives back the signals that it took

    def close(self) -> None:
        """Takes the bar away and gives the signals back."""
        self.terminal.stop()
        for number, handler in getattr(self, "handlers", {}).items():
            signal.signal(number, handler)
        self.handlers = {}

    def _note(self, number: int, _: Any) -> None:
        self.signal = number
        signal.signal(number, signal.default_int_handler)  # a second one ends at once
        self.terminal.advance(speed="stopping after this step")

    def on_train_batch_end(self, trainer: Trainer, task: Task, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:  # a micro-batch
            return
        self.step = trainer.global_step
        number, task.time = self.ranks.highest(self.signal, task.elapsed())
        self.stopped = int(number)
        over = self.state["over"] = task.progress() >= 1
        if self.step % self.settings.log_every == 0 or over:
            self._log(trainer, task)
        if self.step % self.settings.evaluation.every == 0 and not over:
            self._evaluate(trainer)
        last = over or bool(self.stopped)
        if self.step % self.settings.save_every == 0 or last:
            self._save(trainer, task)
        if last:
            trainer.should_stop = True

    def _log(self, trainer: Trainer, task: Task) -> None:
        row = self.ranks.mean(task.means(self.step - self.logged))
        task.refuse_bad_value(row["train/loss"], self.step)
        self.logged = self.step
        self._time()
        milliseconds = self.state["step_ms"][-1]
        speed = self.settings.batch_size * self.settings.model.context / milliseconds * 1000
        lr = trainer.optimizers[0].param_groups[0]["lr"]
        used = {"throughput/mfu": speed / self.full_speed} if self.full_speed else {}
        self.write_row(
            self.step, {**row, "lr": lr, "time/step_ms": milliseconds, "throughput/tokens_per_s": speed, **used}
        )
        self.terminal.advance(
            completed=self.step, loss=f"{row['train/loss']:.3f}", speed=f"{speed / 1000:.1f} k tokens/s"
        )

    def _time(self) -> None:
        """Books the steps since the last mark, whose time holds no evaluation or saving."""
        now = time.perf_counter()
        self.state["train_s"] += now - self.mark
        if self.step > self.timed:
            self.state["step_ms"].append((now - self.mark) * 1000 / (self.step - self.timed))
        self.timed, self.mark = self.step, now

    def _evaluate(self, trainer: Trainer) -> None:
        self._time()
        values = self.ranks.told(self.evaluate())
        self.write_row(self.step, {**values, "time/evaluate_s": time.perf_counter() - self.mark})
        sample = self.sample()
        self.record.append_sample(sample)
        self.state["written"][1] += 1
        self.mirror.log_sample(sample)
        self.say(values["val/loss"], sample["text"])
        if self.state["best"] is None or values["val/loss"] < self.state["best"]:
            self.state["best"], self.state["best_step"] = values["val/loss"], self.step
            checkpoint.save_checkpoint(trainer, self.record.checkpoints, "best", weights_only=True)
        self.state["evaluate_s"] += time.perf_counter() - self.mark
        self.mark = time.perf_counter()

    def say(self, loss: float, text: str) -> None:
        """One line of an evaluation, with the start of what the model wrote."""
        console = self.terminal.console
        room = max(20, min(60, console.width - 30)) if console.is_terminal else 60
        shown = escape(" ".join(text.split())[:room])
        self.terminal.say(f"  step {self.step:>6,}   val [bold]{loss:.4f}[/]   [dim]{shown}[/]")

    def _save(self, trainer: Trainer, task: Task) -> None:
        self._time()
        task.share_sums(self.ranks.mean)
        checkpoint.save_checkpoint(trainer, self.record.checkpoints, "last")
        self.saved = self.step
        self.mark = time.perf_counter()

    @property
    def tokens(self) -> int:
        """Tokens trained on so far."""
        return self.step * self.settings.batch_size * self.settings.model.context

    def write_row(self, step: int, values: dict[str, Any]) -> None:
        """Add a row at a step to metrics.jsonl and W&B."""
        row = {"step": step, "tokens": step * self.settings.batch_size * self.settings.model.context, **values}
        self.record.append_metrics(
            {key: one._asdict() if isinstance(one, Histogram) else one for key, one in row.items()}
        )
        self.state["written"][0] += 1
        self.mirror.log_metrics(row)
