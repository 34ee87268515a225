"""Interleaved timing of arms: ratios to the baseline round by round, against the baseline's own spread."""

import statistics
from collections.abc import Mapping

import numpy as np
from scipy import stats

from gptlab.stats.results import Metric, Timing, Verdict

AA_CONTROL = "A/A"
MIN_ROUNDS = 6
"""Number of rounds below which no order statistics cover a median in 95 % of cases."""
BLOCK, DRAWS = 5, 2000
"""Rounds that are drawn together, and how often."""
EQUIVALENCE_MARGIN = 0.02
"""Share of the time that does not matter, as 2 % of training compute does not."""


def compare_times(metric: Metric, times: Mapping[str, list[float]], size: str, baseline: str) -> Timing | None:
    """Compare the times of one size with the baseline's, in one session.

    A verdict needs an interval that lies wholly beyond the spread of the baseline against itself. Equivalent needs both
    inside the margin: a clock that cannot tell shows no equality. Anything else is not resolved. Returns None without
    that control.
    """
    prefix = f"{size}/" if size else ""
    own_times: dict[str, list[float]] = {}
    for arm, ms in times.items():
        # names are size/arm, or arm alone where there is one size; A/A has a slash of its own
        if arm.startswith(prefix) and (size or "/" not in arm or arm == AA_CONTROL):
            own_times[arm.removeprefix(prefix)] = ms
    if not {baseline, AA_CONTROL} <= set(own_times):
        return None
    # round by round: what slows a moment of the machine slows both, and cancels
    ratios = {arm: _estimate_ratio(own_times[arm], own_times[baseline]) for arm in sorted(own_times) if arm != baseline}
    # all three of the A/A ratio: its ends count, not its median alone
    spread = max(abs(ratio - 1) for ratio in ratios.pop(AA_CONTROL))
    rounds = len(own_times[baseline])
    verdicts: dict[str, Verdict] = {}
    for arm, (_, low, high) in ratios.items():
        verdicts[arm] = _decide(low, high, spread) if rounds >= MIN_ROUNDS else "no verdict"
    medians = {arm: statistics.median(ms) for arm, ms in sorted(own_times.items()) if arm != AA_CONTROL}
    return Timing(metric=metric, medians=medians, ratios=ratios, spread=spread, verdicts=verdicts, rounds=rounds)


def _estimate_ratio(times: list[float], baseline_times: list[float]) -> tuple[float, float, float]:
    """Return the median ratio of the rounds, and the wider of two intervals.

    One is by order statistics, exact if rounds are independent (David & Nagaraja 2003, Order Statistics, section 7.1);
    one by resampling blocks of rounds, since neighbours may be alike (circular block bootstrap: Politis & Romano 1992).
    The latter alone is too short: of 12 rounds it holds the truth three times in four.
    """
    ratios = np.array(times) / np.array(baseline_times)
    in_order, n = np.sort(ratios), len(ratios)
    # each round is above the median in half of cases, so ranks of order statistics are binomial
    below = int(stats.binom.ppf(0.025, n, 0.5))
    # a fixed seed: the same times give the same verdict
    resampled = ratios[resample_rounds(n, np.random.default_rng(0))]  # (DRAWS, about n)
    drawn = np.quantile(np.median(resampled, 1), [0.025, 0.975])
    low = min(in_order[max(0, below - 1)], drawn[0])
    high = max(in_order[min(n - 1, n - below)], drawn[1])
    return float(np.median(ratios)), float(low), float(high)


def resample_rounds(rounds: int, draws: np.random.Generator) -> np.ndarray:
    """Draw round numbers with replacement, (DRAWS, about rounds), in blocks of BLOCK that wrap around."""
    length = min(BLOCK, rounds)
    starts = draws.integers(rounds, size=(DRAWS, -(-rounds // length)))
    return ((starts[..., None] + np.arange(length)) % rounds).reshape(DRAWS, -1)


def _decide(low: float, high: float, spread: float) -> Verdict:
    if high < 1 - spread:
        return "better"
    if low > 1 + spread:
        return "worse"
    # a clock whose own spread is wider shows no equality
    return "equivalent" if max(spread, 1 - low, high - 1) <= EQUIVALENCE_MARGIN else "not resolved"
