"""Estimate of a run's length from the time of one step: the one for a run and for a study's bill. No torch."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from gptlab.config.recipe import Settings
from gptlab.errors import Refused

STEP_PER_FORWARD = 3
"""A step takes about three times as long as its forward pass."""
WRITE_S_PER_LAYER = 0.001
"""Seconds to write one token, by layer, whatever the batch: the time of Python and of small kernels."""
TIMED_TOKENS, TIMED_UNCACHED_TOKENS = 20, 5
"""Tokens of one text that are timed one by one at the end, with caches and without."""
WINDOW_S = 6e-5
"""Seconds to score one text of a downstream task, beside its forward pass (two cores, 2026-11-30)."""
CONTEXTS = (1, 2, 4)
"""Contexts of history before the targets that the final evaluation scores again, all but the first."""
HISTORY_SHARE = 4
"""Part of the interim evaluations' tokens that are these targets."""


LEAST_STEPS = 3
"""Steps for which max_minutes must leave time."""


class TaskWork(NamedTuple):
    """Windows of text that an evaluation of all downstream tasks scores, and the tokens that these read."""

    windows: int = 0
    tokens: int = 0


NO_TASKS = TaskWork()


def count_task_work(metrics: Iterable[Any], context: int) -> TaskWork:
    """Return the work of one evaluation of metrics of tasks (TaskMetric)."""
    from gptlab.generation.likelihood import count_windows  # late: torch

    windows = tokens = 0
    for metric in metrics:
        for items in metric.items.values():
            task_windows, task_tokens = count_windows(metric.list_continuations(items), context)
            windows, tokens = windows + task_windows, tokens + task_tokens
    return TaskWork(windows, tokens)


class RunTime(NamedTuple):
    """Seconds of training, of all interim evaluations, and of the final evaluation with its samples."""

    train_s: float
    interim_s: float
    final_s: float

    @property
    def overhead_s(self) -> float:
        """All that is not training."""
        return self.interim_s + self.final_s

    @property
    def total_s(self) -> float:
        """The whole run, once it has started."""
        return self.train_s + self.overhead_s


def estimate_run_time(
    settings: Settings,
    *,
    step_s: float,
    forward_s: float,
    validation_tokens: int,
    prompt_tokens: int = 1,
    tasks: TaskWork = NO_TASKS,
) -> RunTime:
    """Estimate a run's time from seconds of a step, and of a forward pass by token.

    validation_tokens  of the split that the final evaluation scores
    prompt_tokens      before every sample
    tasks              what each evaluation scores of downstream tasks
    """
    sample, layers = settings.sample, settings.model.layers * settings.model.loops
    interim_tokens = settings.evaluation.tokens
    scored = validation_tokens + sum(CONTEXTS[1:]) * interim_tokens // HISTORY_SHARE
    # without caches each token reads a whole context again
    scored += TIMED_UNCACHED_TOKENS * settings.model.context
    if sample.one_by_one or not sample.cached:
        scored += _count_reread_tokens(settings, prompt_tokens)
    # One by one, both ways of writing write all samples; else the way that is kept writes one batch.
    passes = 2 * sample.count if sample.one_by_one else 1
    written = passes * sample.length + TIMED_TOKENS
    tasks_s = tasks.tokens * forward_s + tasks.windows * WINDOW_S
    interim_s = interim_tokens * forward_s + sample.length * WRITE_S_PER_LAYER * layers + tasks_s
    return RunTime(
        train_s=settings.steps * step_s,
        interim_s=(settings.steps // settings.evaluation.every) * interim_s,
        final_s=scored * forward_s + written * WRITE_S_PER_LAYER * layers + tasks_s,
    )


def limit_training(minutes: float, *, spent_s: float, final_s: float, step_s: float) -> float:
    """Return the seconds of training that max_minutes leaves; refuse so few that there is nothing to train in.

    spent_s  seconds since the run began
    final_s  seconds of its end, as estimated
    step_s   seconds of a step
    """
    rest_s = spent_s + 1.2 * final_s + 1  # a fifth more than estimated, and a second for the last checkpoint
    seconds = minutes * 60 - rest_s
    if seconds < LEAST_STEPS * step_s:
        raise Refused(
            f"max_minutes={minutes:g} leaves no time to train: all the rest takes {rest_s:.0f} s here; give more"
        )
    return seconds


def _count_reread_tokens(settings: Settings, prompt_tokens: int) -> int:
    """Count the tokens that are read again and again when the samples are written without caches."""
    sample, context = settings.sample, settings.model.context
    # the n-th token reads the prompt and n before it, up to one context
    return sample.count * sum(min(prompt_tokens + written, context) for written in range(sample.length))
