"""Laws of a clock's verdicts, on traces whose truth is known."""

import numpy as np
import pytest

from gptlab.stats.results import Metric, Timing
from gptlab.stats.timing import AA_CONTROL, compare_times

ROUNDS = 36
"""Three blocks of twelve, the default of studies that train nothing."""
MS = Metric("ms", "ms", "ms")


def session(seed: int, **slower: float) -> Timing:
    """Arms in turn on a machine a little worse than the one recorded (docs/log.md: 200 rounds of two models): rounds
    drift together by 7 % (AR 0.9), each time jitters by 2.5 %, one in ten is met by a neighbour."""
    draws = np.random.default_rng(seed)
    drift = np.zeros(ROUNDS)
    for at, step in enumerate(draws.normal(0, 0.03, ROUNDS)):
        drift[at] = 0.9 * drift[at - 1] * (at > 0) + step

    def times(ratio: float) -> list[float]:
        met = (draws.random(ROUNDS) < 0.1) * np.abs(draws.normal(0, 0.25, ROUNDS))
        return [*ratio * np.exp(drift + draws.normal(0, 0.025, ROUNDS) + met)]

    found = compare_times(
        MS, {name: times(ratio) for name, ratio in {"a": 1.0, AA_CONTROL: 1.0, **slower}.items()}, "", "a"
    )
    assert found is not None
    return found


def test_a_slowdown_of_5_percent_is_seen_and_none_is_not():
    found = [session(seed, same=1.0, slow=1.05).ratios for seed in range(100)]
    assert sum(one["slow"][1] > 1 for one in found) >= 88
    assert sum(one["same"][1] <= 1 <= one["same"][2] for one in found) >= 88


def test_what_is_alike_is_rarely_called_otherwise():
    verdicts = [session(seed, same=1.0).verdicts["same"] for seed in range(100)]
    assert sum(verdict in ("better", "worse") for verdict in verdicts) <= 2


@pytest.mark.parametrize(("rounds", "said"), [(5, "no verdict"), (6, "worse")])
def test_five_rounds_say_nothing(rounds: int, said: str):
    found = compare_times(MS, {"a": [1.0] * rounds, AA_CONTROL: [1.0] * rounds, "b": [1.5] * rounds}, "", "a")
    assert found is not None
    assert found.verdicts == {"b": said}
