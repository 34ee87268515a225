"""The final samples: written with caches and without, timed, and judged beside a floor and a ceiling.

Both ways write sample.count texts of sample.length tokens, in one batch or one by one; a short warm-up is thrown away.
The texts kept are those that sample.cached names. Times are seconds for all texts together.
"""

import statistics
import time
from typing import Any

import numpy as np

from gptlab.training.session import Session

RESAMPLED = 9999
"""Draws of a bootstrap."""


def draw(session: Session) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Writes, judges and records the samples; also the median milliseconds of a token at batch 1, with caches."""
    sample, start = session.settings.sample, time.perf_counter()
    texts: list[dict[str, Any]] = []
    values: dict[str, float] = {}
    if sample.count:
        for cached in (not sample.cached, sample.cached):  # the last is kept
            texts, seconds = timed(session, cached)
            values[f"time/generate_{'cached' if cached else 'uncached'}_s"] = seconds
        values |= judge(session, texts)
    for text in texts:
        session.record.append_sample(text)
    session.write(1, 8, cached=True)  # warm
    each = []
    for _ in range(5):
        began = time.perf_counter()
        session.write(1, sample.length, cached=True)
        each.append((time.perf_counter() - began) * 1000 / sample.length)
    values["time/generate_ms_per_token"] = statistics.median(each)
    values["time/samples_s"] = time.perf_counter() - start
    session.mirror.log_sample_table(texts)  # W&B may keep it waiting
    return texts, values


def timed(session: Session, cached: bool) -> tuple[list[dict[str, Any]], float]:
    """All samples, and the seconds that they took. Alone, each has a seed of its own and its `seconds`."""
    sample, seed = session.settings.sample, session.settings.seed
    alone = sample.one_by_one
    session.write(1 if alone else sample.count, 2, cached=cached)  # warm
    rows, total = [], 0.0
    for number in range(sample.count if alone else 1):
        began = time.perf_counter()
        written = session.write(1 if alone else sample.count, sample.length, seed=seed + number, cached=cached)
        seconds = time.perf_counter() - began
        rows += [{**row, "seconds": seconds} if alone else row for row in written]
        total += seconds
    return rows, total


def judge(session: Session, rows: list[dict[str, Any]]) -> dict[str, float]:
    """What every text metric says of the samples, with a 95 % interval over them, of blind texts and of real ones, as
    many and as long. Each row gets its own score."""
    values: dict[str, float] = {}
    length = session.settings.sample.length
    compared = {
        "_floor": session.texts.blind(len(rows), length),
        "_ceiling": session.texts.real(len(rows), length, after=int(session.prompt[-1])),
        "": [row["text"] for row in rows],
    }
    for name, metric in session.text_metrics.items():
        each = np.empty(0)
        for suffix, texts in compared.items():
            metric.reset()
            metric.update(texts)
            each = metric.each().numpy()
            values[f"val/{name}{suffix}"] = float(each.mean())
        values[f"val/{name}_low"], values[f"val/{name}_high"] = interval(each)
        for row, score in zip(rows, each.tolist(), strict=True):
            row[name] = score
    return values


def interval(scores: np.ndarray) -> tuple[float, float]:
    """The 95 % percentile bootstrap of a mean."""
    drawn = np.random.default_rng(0).integers(0, len(scores), (RESAMPLED, len(scores)))
    low, high = np.percentile(scores[drawn].mean(1), [2.5, 97.5])
    return float(low), float(high)
