"""Keys of downstream tasks in summary.json: which they are, and what is known of their noise."""

from collections.abc import Iterable

from gptlab.stats.downstream.signal_to_noise import SignalToNoise, measure_signal
from gptlab.stats.paired_tests import Table
from gptlab.stats.results import Metric, Run, make_metric
from gptlab.stats.summary_keys import NOISE_PREFIX, find_key

TASKS = ("val/answer_bits", "val/minimal_pairs")
"""Means over tasks; the key of one of several tasks goes on with its name."""


def is_task_key(key: str) -> bool:
    """Return whether a key is of a downstream task: judged by files of its own, in units of no tokenizer."""
    declared = find_key(key)
    # "val/answer_bits_<task>" is how summary_keys declares the keys of single tasks
    return declared is not None and declared.key.removesuffix("_<task>") in TASKS


def list_task_metrics(runs: Iterable[Run]) -> list[Metric]:
    """Return the metrics of all downstream tasks that runs were judged by."""
    keys: set[str] = set()
    for run in runs:
        keys |= {key for key in run.values if is_task_key(key)}
    return [make_metric(key) for key in sorted(keys)]


def measure_task_signal(metric: Metric, values: Table, runs: Iterable[Run]) -> SignalToNoise | None:
    """Return signal and noise of a downstream task, None for any other metric."""
    if not is_task_key(metric.key):
        return None
    key = NOISE_PREFIX + metric.key.removeprefix("val/")
    sds = [run.values[key] for run in runs if run.status == "finished" and key in run.values]
    return measure_signal(values, sds)
