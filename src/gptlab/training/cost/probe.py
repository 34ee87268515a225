"""The probe: what a run will cost here, measured on the real decoder in a few seconds, without a trace in it."""

import statistics
import time
from dataclasses import dataclass

import torch

from gptlab.corpus.batch import Batch
from gptlab.model.attention_kernels import record_kernels
from gptlab.training.context import RunContext
from gptlab.training.cost.run_time import STEP_PER_FORWARD, RunTime, estimate_run_time
from gptlab.training.cost.training_step import make_resting_optimizer, take_training_step
from gptlab.training.evaluator import Evaluator
from gptlab.training.sample_writer import SampleWriter
from gptlab.training.setup import TrainingSetup

ROUNDS = 5
"""Steps that are timed."""
SLOW_S = 1.0
"""Seconds from which on one step is enough to time."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What was measured. Of several processes' steps it is one's part, without their communication.

    step_s           seconds of a step
    single_thread_s  the same on one thread
    time             of the whole run, estimated
    kernels          the attention kernels that ran
    """

    step_s: float
    single_thread_s: float
    time: RunTime
    kernels: str


def probe_run(context: RunContext, setup: TrainingSetup, evaluator: Evaluator, writer: SampleWriter) -> Probe:
    """Time some steps with a learning rate of 0, which leave every weight as it is, and estimate the run's time.

    A quiet run, such as a cell of a study, is timed once: nobody reads its estimate.
    """
    settings, decoder = context.settings, setup.decoder
    # a real batch, of which this process takes its part
    batch = setup.data_module.load_batch(0).split(context.processes.size)[0].to(setup.device)
    with torch.random.fork_rng([setup.device] if setup.device.type == "cuda" else []):  # dropout draws
        with record_kernels() as names, torch.no_grad(), setup.numerics():
            # eagerly, since a compiled pass would be recorded once, when it is traced
            first = batch.take_rows(slice(1))
            decoder.forward(first.inputs, documents=first.documents)
        rounds = 1 if context.terminal.console.quiet else ROUNDS
        step_s = single_thread_s = time_step(setup, batch, rounds)
        threads = torch.get_num_threads()
        if setup.device.type == "cpu" and threads > 1 and not setup.compiled:
            torch.set_num_threads(1)
            single_thread_s = time_step(setup, batch, rounds)
            torch.set_num_threads(threads)
    tokens = len(batch.inputs) * settings.model.context
    run_time = estimate_run_time(
        settings,
        step_s=step_s,
        forward_s=min(step_s, single_thread_s) / STEP_PER_FORWARD / tokens,
        validation_tokens=len(evaluator.final_windows[0]) * settings.model.context,
        prompt_tokens=len(writer.prompt),
    )
    kernels = "+".join(sorted(set(names))) or "none"
    return Probe(step_s=step_s, single_thread_s=single_thread_s, time=run_time, kernels=kernels)


def time_step(setup: TrainingSetup, batch: Batch, rounds: int = ROUNDS) -> float:
    """Return the seconds of one optimizer step.

    It is the median of `rounds`; of one where that is slow; a row's times the rows where that alone is slow. A compiled
    decoder compiles first, which is not counted.
    """
    accumulate = setup.context.settings.accumulate
    # one of its own: its moments must not enter the training
    optimizer = make_resting_optimizer(setup.task.optimizer, setup.decoder.trainable_parameters())

    def time_rows(rows: int) -> float:
        start = time.perf_counter()
        part = batch.take_rows(slice(rows))
        take_training_step(setup.decoder, optimizer, part, accumulate, setup.numerics)
        if setup.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    setup.decoder.train()
    if not setup.compiled:  # for every shape and thread count it would compile anew
        # twice, since the first call of a process allocates and warms up
        smallest = min(time_rows(accumulate), time_rows(accumulate))
        if smallest > SLOW_S:
            return smallest * len(batch.inputs) / accumulate
    first = time_rows(len(batch.inputs))
    if first > SLOW_S and not setup.compiled:
        return first
    return statistics.median(time_rows(len(batch.inputs)) for _ in range(rounds))
