"""The probe: what a run will cost here, measured on the real decoder in a few seconds, without a trace in it."""

import statistics
import time
from dataclasses import dataclass
from typing import NamedTuple

import torch

from gptlab.corpus.batch import Batch
from gptlab.model.attention_kernels import record_kernels
from gptlab.training.context import RunContext
from gptlab.training.cost.run_time import STEP_PER_FORWARD, RunTime, count_task_work, estimate_run_time
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
    alone_s          seconds that it would take where nothing else runs: of its threads' CPU time, on a CPU
    single_thread_s  the same on one thread
    time             of the whole run, estimated
    kernels          the attention kernels that ran
    """

    step_s: float
    alone_s: float
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
        step_s, alone_s = time_step(setup, batch, rounds)
        single_thread_s = step_s
        threads = torch.get_num_threads()
        if setup.device.type == "cpu" and threads > 1 and not setup.compiled:
            torch.set_num_threads(1)
            single_thread_s, _ = time_step(setup, batch, rounds)
            torch.set_num_threads(threads)
    tokens = len(batch.inputs) * settings.model.context
    run_time = estimate_run_time(
        settings,
        step_s=step_s,
        forward_s=min(step_s, single_thread_s) / STEP_PER_FORWARD / tokens,
        validation_tokens=len(evaluator.final_windows[0]) * settings.model.context,
        prompt_tokens=len(writer.prompt),
        tasks=count_task_work(evaluator.task_metrics.values(), settings.model.context),
    )
    kernels = "+".join(sorted(set(names))) or "none"
    return Probe(step_s=step_s, alone_s=alone_s, single_thread_s=single_thread_s, time=run_time, kernels=kernels)


class StepTime(NamedTuple):
    """Seconds of a step: on the clock, and of CPU time by thread, which other processes do not lengthen."""

    wall_s: float
    thread_s: float


def time_step(setup: TrainingSetup, batch: Batch, rounds: int = ROUNDS) -> StepTime:
    """Return the seconds of one optimizer step.

    It is the median of `rounds`; of one where that is slow; a row's times the rows where that alone is slow. A compiled
    decoder compiles first, which is not counted.
    """
    accumulate = setup.context.settings.accumulate
    # one of its own: its moments must not enter the training
    optimizer = make_resting_optimizer(setup.task.optimizer, setup.decoder.trainable_parameters())

    def time_rows(rows: int) -> StepTime:
        start, cpu_start = time.perf_counter(), time.process_time()
        part = batch.take_rows(slice(rows))
        take_training_step(setup.decoder, optimizer, part, accumulate, numerics=setup.numerics)
        if setup.device.type == "cuda":
            torch.cuda.synchronize()
        wall_s = time.perf_counter() - start
        # all threads of this process together; a GPU's work is on no CPU
        thread_s = (time.process_time() - cpu_start) / torch.get_num_threads()
        return StepTime(wall_s, min(wall_s, thread_s) if setup.device.type == "cpu" else wall_s)

    setup.decoder.train()
    if not setup.compiled:  # for every shape and thread count it would compile anew
        # twice, since the first call of a process allocates and warms up
        smallest = min(time_rows(accumulate), time_rows(accumulate))
        if smallest.wall_s > SLOW_S:
            factor = len(batch.inputs) / accumulate
            return StepTime(smallest.wall_s * factor, smallest.thread_s * factor)
    first = time_rows(len(batch.inputs))
    if first.wall_s > SLOW_S and not setup.compiled:
        return first
    times = [time_rows(len(batch.inputs)) for _ in range(rounds)]
    wall_s, thread_s = zip(*times, strict=True)
    return StepTime(statistics.median(wall_s), statistics.median(thread_s))
