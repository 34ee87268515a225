"""The final samples: written, timed, and judged beside a floor and a ceiling.

sample.count texts of sample.length tokens are written in one batch, with caches or as sample.cached says; their
seconds are those of all together. With sample.one_by_one each is written alone, once with caches and once without, and
the texts kept are those that sample.cached names. A token of a single text is timed both ways, on a few tokens.
"""

import statistics
import time
from typing import Any

import numpy as np
import torch

from gptlab.config.recipe import Settings
from gptlab.generation.generate import generate
from gptlab.model.decoder import Decoder
from gptlab.model.eval_mode import eval_mode
from gptlab.training.context import RunContext
from gptlab.training.cost.run_time import TIMED_TOKENS, TIMED_UNCACHED_TOKENS
from gptlab.training.evaluator import Evaluator
from gptlab.training.run_log import RunLog
from gptlab.training.sample_writer import SampleWriter
from gptlab.training.setup import TrainingSetup

BOOTSTRAP_DRAWS = 9999
WARM_UP_TOKENS = 2
"""Tokens that are thrown away before others are timed."""

Sample = dict[str, Any]


def write_final_samples(
    context: RunContext, setup: TrainingSetup, evaluator: Evaluator, writer: SampleWriter, log: RunLog
) -> tuple[list[Sample], dict[str, float]]:
    """Write, judge and record the samples; return them and the values for the summary.

    Among these is the median time of a token at batch 1, with caches and without, in milliseconds.
    """
    settings, start = context.settings, time.perf_counter()
    texts: list[Sample] = []
    values: dict[str, float] = {}
    if settings.sample.count:
        kept = settings.sample.cached
        ways = (not kept, kept) if settings.sample.one_by_one else (kept,)
        for cached in ways:  # the texts of the last are kept
            texts, seconds = time_samples(settings, setup.decoder, writer, cached)
            values[f"time/generate_{'cached' if cached else 'uncached'}_s"] = seconds
        texts = [{**log.axes(), **text} for text in texts]
        values |= judge_samples(evaluator, texts, settings.sample.length, last_prompt_token=int(writer.prompt[-1]))
    for text in texts:
        context.folder.append_sample(text)
    prompt = torch.from_numpy(context.corpus.train[: settings.model.context].astype(np.int64)).to(setup.device)
    values["time/generate_ms_per_token"] = time_token(setup.decoder, prompt[:1], TIMED_TOKENS, cached=True)
    values["time/generate_uncached_ms_per_token"] = time_token(
        setup.decoder, prompt, TIMED_UNCACHED_TOKENS, cached=False
    )
    values["time/samples_s"] = time.perf_counter() - start
    context.tracker.log_sample_table(texts)  # W&B may keep it waiting
    return texts, values


def time_token(decoder: Decoder, prompt: torch.Tensor, count: int, cached: bool) -> float:
    """Return the median milliseconds of a token, of `count` that are written after a prompt (T,).

    Without caches each reads the whole last context, so the prompt is one.
    """
    tokens = generate(decoder, prompt[None], WARM_UP_TOKENS + count, cached=cached)
    times = []
    with eval_mode(decoder):  # as texts are written
        for _ in range(WARM_UP_TOKENS):
            next(tokens)
        for _ in range(count):
            start = time.perf_counter()
            next(tokens).tolist()  # waits for a GPU
            times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times)


def time_samples(
    settings: Settings, decoder: Decoder, writer: SampleWriter, cached: bool
) -> tuple[list[Sample], float]:
    """Write all samples and return them with their seconds.

    With sample.one_by_one each has a seed of its own and its own `seconds`.
    """
    sample, one_by_one = settings.sample, settings.sample.one_by_one
    count = 1 if one_by_one else sample.count
    # not counted: the first call allocates the caches of this shape
    writer.write(decoder, count, WARM_UP_TOKENS, cached=cached)
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
    # the samples last: after the loop below `scores` are theirs
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
    # a fixed seed: the same scores have the same interval whoever computes it
    draws = np.random.default_rng(0).integers(0, len(scores), (BOOTSTRAP_DRAWS, len(scores)))
    low, high = np.percentile(scores[draws].mean(1), [2.5, 97.5])
    return float(low), float(high)
