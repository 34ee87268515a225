"""The final samples: written with caches and without, timed, and judged beside a floor and a ceiling.

Both ways write sample.count texts of sample.length tokens, in one batch or one by one; a short warm-up is thrown away.
The texts kept are those that sample.cached names. Times are seconds for all texts together.
"""

import statistics
import time
from typing import Any

import numpy as np

from gptlab.config.recipe import Settings
from gptlab.model.decoder import Decoder
from gptlab.training.context import RunContext
from gptlab.training.cost.run_time import SINGLE_SAMPLES
from gptlab.training.evaluator import Evaluator
from gptlab.training.run_log import RunLog
from gptlab.training.sample_writer import SampleWriter
from gptlab.training.setup import TrainingSetup

BOOTSTRAP_DRAWS = 9999
WARM_UP_TOKENS = 8, 2
"""Tokens that are thrown away before the time of a token, and before that of the samples."""

Sample = dict[str, Any]


def write_final_samples(
    context: RunContext, setup: TrainingSetup, evaluator: Evaluator, writer: SampleWriter, log: RunLog
) -> tuple[list[Sample], dict[str, float]]:
    """Write, judge and record the samples; return them and the values for the summary.

    Among these is the median time of a token at batch 1, with caches, in milliseconds.
    """
    settings, start = context.settings, time.perf_counter()
    texts: list[Sample] = []
    values: dict[str, float] = {}
    if settings.sample.count:
        for cached in (not settings.sample.cached, settings.sample.cached):  # the last is kept
            texts, seconds = time_samples(settings, setup.decoder, writer, cached)
            values[f"time/generate_{'cached' if cached else 'uncached'}_s"] = seconds
        texts = [{**log.axes(), **text} for text in texts]
        values |= judge_samples(evaluator, texts, settings.sample.length, last_prompt_token=int(writer.prompt[-1]))
    for text in texts:
        context.folder.append_sample(text)
    values["time/generate_ms_per_token"] = time_token(setup.decoder, writer, settings.sample.length)
    values["time/samples_s"] = time.perf_counter() - start
    context.tracker.log_sample_table(texts)  # W&B may keep it waiting
    return texts, values


def time_token(decoder: Decoder, writer: SampleWriter, length: int) -> float:
    """Return the median milliseconds of a token, of a few texts written one by one with caches."""
    writer.write(decoder, 1, WARM_UP_TOKENS[0], cached=True)
    times = []
    for _ in range(SINGLE_SAMPLES):
        start = time.perf_counter()
        writer.write(decoder, 1, length, cached=True)
        times.append((time.perf_counter() - start) * 1000 / length)
    return statistics.median(times)


def time_samples(
    settings: Settings, decoder: Decoder, writer: SampleWriter, cached: bool
) -> tuple[list[Sample], float]:
    """Write all samples and return them with their seconds.

    With sample.one_by_one each has a seed of its own and its own `seconds`.
    """
    sample, one_by_one = settings.sample, settings.sample.one_by_one
    count = 1 if one_by_one else sample.count
    writer.write(decoder, count, WARM_UP_TOKENS[1], cached=cached)
    rows, total_s = [], 0.0
    for number in range(sample.count if one_by_one else 1):
        start = time.perf_counter()
        texts = writer.write(decoder, count, sample.length, seed=settings.seed + number, cached=cached)
        seconds = time.perf_counter() - start
        rows += [{**text, "seconds": seconds} if one_by_one else text for text in texts]
        total_s += seconds
    return rows, total_s


def judge_samples(evaluator: Evaluator, samples: list[Sample], length: int, last_prompt_token: int) -> dict[str, float]:
    """Return every text metric of the samples, with a 95 % interval, a floor and a ceiling.

    Floor and ceiling are of random and of real texts, as many and as long. Each sample gets its own score as a key.
    """
    values: dict[str, float] = {}
    compared = {
        "_floor": evaluator.texts.random_texts(len(samples), length),
        "_ceiling": evaluator.texts.validation_texts(len(samples), length, after=last_prompt_token),
        "": [sample["text"] for sample in samples],
    }
    for name, metric in evaluator.text_metrics.items():
        scores = np.empty(0)
        for suffix, texts in compared.items():
            metric.reset()
            metric.update(texts)
            scores = metric.gather_scores().numpy()
            values[f"val/{name}{suffix}"] = float(scores.mean())
        values[f"val/{name}_low"], values[f"val/{name}_high"] = bootstrap_interval(scores)
        for sample, score in zip(samples, scores.tolist(), strict=True):
            sample[name] = score
    return values


def bootstrap_interval(scores: np.ndarray) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of a mean."""
    draws = np.random.default_rng(0).integers(0, len(scores), (BOOTSTRAP_DRAWS, len(scores)))
    low, high = np.percentile(scores[draws].mean(1), [2.5, 97.5])
    return float(low), float(high)
