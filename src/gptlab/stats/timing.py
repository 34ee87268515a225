"""Arms timed in turn: ratios to the baseline round by round, against what the baseline differs from itself."""

import statistics as plain
from collections.abc import Mapping

import numpy as np
from scipy import stats

from gptlab.stats.results import Metric, Timing, Verdict

TWIN = "A/A"
LEAST = 6
"""Rounds: of fewer, no order statistics hold a median in 95 % of cases."""
BLOCK, DRAWS = 5, 2000
"""Rounds that are drawn together, and how often."""
SAME = 0.02
"""Of the time: what does not matter, as 2 % of training compute does not."""


def timing(metric: Metric, timed: Mapping[str, list[float]], size: str, baseline: str) -> Timing | None:
    """One session of one size. A verdict needs an interval that lies wholly beyond the spread of the baseline against
    itself. Equivalent needs both inside of what does not matter: a clock that cannot tell shows no equality. Anything
    else is not resolved; nothing is said without that control."""
    start = f"{size}/" if size else ""
    mine = {
        arm.removeprefix(start): ms
        for arm, ms in timed.items()
        if arm.startswith(start) and (size or "/" not in arm or arm == TWIN)
    }
    if not {baseline, TWIN} <= set(mine):
        return None
    ratios = {arm: _ratio(mine[arm], mine[baseline]) for arm in sorted(mine) if arm != baseline}
    spread, rounds = max(abs(one - 1) for one in ratios.pop(TWIN)), len(mine[baseline])
    verdicts: dict[str, Verdict] = {
        arm: _verdict(low, high, spread) if rounds >= LEAST else "no verdict" for arm, (_, low, high) in ratios.items()
    }
    medians = {arm: plain.median(ms) for arm, ms in sorted(mine.items()) if arm != TWIN}
    return Timing(metric, medians, ratios, spread, verdicts, rounds)


def _ratio(here: list[float], there: list[float]) -> tuple[float, float, float]:
    """The middle ratio of the rounds, and the wider of two intervals: by order statistics, exact if rounds are
    independent, and by drawing blocks of rounds again, since neighbours may be alike. The latter alone is too short: of
    12 rounds it holds the truth three times in four."""
    ratios = np.array(here) / np.array(there)
    ordered, n = np.sort(ratios), len(ratios)
    below = int(stats.binom.ppf(0.025, n, 0.5))
    drawn = np.quantile(np.median(ratios[again(n, np.random.default_rng(0))], 1), [0.025, 0.975])
    low, high = min(ordered[max(0, below - 1)], drawn[0]), max(ordered[min(n - 1, n - below)], drawn[1])
    return float(np.median(ratios)), float(low), float(high)


def again(rounds: int, draws: np.random.Generator) -> np.ndarray:
    """Rounds drawn again, (DRAWS, about rounds), in runs of BLOCK that wrap."""
    length = min(BLOCK, rounds)
    starts = draws.integers(rounds, size=(DRAWS, -(-rounds // length)))
    return ((starts[..., None] + np.arange(length)) % rounds).reshape(DRAWS, -1)


def _verdict(low: float, high: float, spread: float) -> Verdict:
    if high < 1 - spread:
        return "better"
    if low > 1 + spread:
        return "worse"
    return "equivalent" if max(spread, 1 - low, high - 1) <= SAME else "not resolved"
