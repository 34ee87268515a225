"""The parts of summary.json that do not come from an evaluation: what the run was, and what it took."""

import statistics
import time
from typing import Any

from gptlab.runs.record import utc_now
from gptlab.training.branching.trunk import build_schedule
from gptlab.training.context import RunContext
from gptlab.training.cost.memory import peak_bytes
from gptlab.training.cost.probe import Probe
from gptlab.training.setup import TrainingSetup
from gptlab.training.state import RunState
from gptlab.weights.change import summary_metrics

NOT_IN_SUMMARY = ("choices", "differs", "command", "cwd", "openmp", "threads", "trunk", "trunk_step")
"""Facts of run.json that stay there."""


def describe_run(
    context: RunContext, setup: TrainingSetup, state: RunState, facts: dict[str, Any], probe: Probe | None = None
) -> dict[str, Any]:
    """Return the part of a summary that a run has at whatever point it ended. `facts` are those of run.json."""
    settings = context.settings
    return {
        # first, so that what is measured now stands over a fact of the same name
        **{key: value for key, value in facts.items() if key not in NOT_IN_SUMMARY},
        "seed": settings.seed,
        "steps": state.step,
        "tokens": state.step * settings.batch_size * settings.model.context,
        **setup.costs._asdict(),
        "device": setup.device_name,
        "processes": context.processes.size,
        "precision": setup.precision,
        "compiled": setup.compiled,
        "schedule/mean_factor": build_schedule(context.recipe).mean(),
        "ended": utc_now(),
        **summary_metrics(setup.decoder),
        **({"attention/kernel": probe.kernels} if probe else {}),
    }


def measure_times(
    context: RunContext, setup: TrainingSetup, state: RunState, start_s: float, evaluate_s: float
) -> dict[str, Any]:
    """Return times, speed and memory of the run, by their keys in summary.json."""
    settings = context.settings
    # the median: a row with a save or a busy neighbour in it does not count
    step_ms = statistics.median(state.step_ms) if state.step_ms else None
    speed = settings.batch_size * settings.model.context / step_ms * 1000 if step_ms else None
    peak = setup.peak_tokens_per_s
    return {
        "time/total_s": time.monotonic() - context.began,
        "time/start_s": start_s,
        "time/train_s": state.train_s,
        "time/evaluate_s": state.evaluate_s + evaluate_s,
        "time/step_ms_median": step_ms,
        "throughput/tokens_per_s": speed,
        **({"throughput/mfu": speed / peak} if speed and peak else {}),
        # of this process since its decoder was built (cost/memory.py)
        "memory/peak_bytes": peak_bytes(setup.device),
    }
