"""What a run will cost here, measured on the real decoder in a few seconds, without a trace in it."""

import statistics
import time
from dataclasses import dataclass

import torch

from gptlab.model.attention_kernels import watch
from gptlab.training.final_evaluation import CONTEXTS
from gptlab.training.session import Session

TRAINING = 3
"""A step takes about three times as long as its forward pass."""


@dataclass(frozen=True)
class Probe:
    """Seconds of a step, also on one thread, of the final evaluation and samples, and of all that is not training; the
    attention kernels that ran. Of several processes' steps, one's part, without what they tell each other."""

    step_s: float
    alone_s: float
    final_s: float
    overhead_s: float
    kernels: str


def probe(session: Session) -> Probe:
    """Times some steps with a learning rate of 0, which leave every weight as it is."""
    settings, decoder = session.settings, session.decoder
    batch = session.feed.batch(0).chunk(session.ranks.size)[0].to(session.device)
    with torch.random.fork_rng([session.device] if session.device.type == "cuda" else []):  # dropout draws
        with watch() as names, torch.no_grad(), session.numerics():
            decoder.forward(batch[:1, :-1])
        step_s = alone_s = time_of_step(session, batch)
        threads = torch.get_num_threads()
        if session.device.type == "cpu" and threads > 1 and not session.compiled:
            torch.set_num_threads(1)
            alone_s = time_of_step(session, batch)
            torch.set_num_threads(threads)
    # A forward pass is a third of a step; a token written costs about 1 ms a layer, whatever the batch.
    forward = min(step_s, alone_s) / TRAINING / len(batch)
    rows = len(session.all[0]) + sum(CONTEXTS) * len(session.some[0]) + reread(session)
    written = 5 + 2 * (settings.sample.count if settings.sample.one_by_one else 1)
    final_s = rows * forward + (settings.sample.length * written + 10) * 0.001 * settings.model.layers
    interim = settings.steps // settings.evaluation.every
    each = len(session.some[0]) * forward + settings.sample.length * 0.001 * settings.model.layers
    return Probe(step_s, alone_s, final_s, final_s + interim * each, "+".join(sorted(set(names))) or "none")


def reread(session: Session) -> float:
    """How many contexts of tokens are read when the samples are written without caches."""
    sample, context = session.settings.sample, session.settings.model.context
    held = (min(len(session.prompt) + token, context) for token in range(sample.length))
    return sample.count * sum(held) / context


def time_of_step(session: Session, batch: torch.Tensor) -> float:
    """Seconds of one optimiser step: the median of five; of one where that is slow; a row's times the rows where that
    alone takes a second. A compiled decoder compiles first, which is not counted."""
    settings = session.settings
    make = session.task.optimizer
    optimizer = make(session.decoder.trainable_parameters(), lr=0.0)

    def step(rows: int) -> float:
        start = time.perf_counter()
        for micro in batch[:rows].chunk(settings.accumulate):
            with session.numerics():
                output = session.decoder(micro[:, :-1], micro[:, 1:])
            (output.loss + sum(output.losses.values())).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if session.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    session.decoder.train()
    if not session.compiled:  # for every shape and thread count it would compile anew
        single = min(step(settings.accumulate), step(settings.accumulate))
        if single > 1:
            return single * len(batch) / settings.accumulate
    first = step(len(batch))
    if first > 1 and not session.compiled:
        return first
    return statistics.median(step(len(batch)) for _ in range(5))
