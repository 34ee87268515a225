"""The formulas hold, by other means. Error rates, power and coverage: test_moderation.py."""

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from gptlab.stats import paired_tests as statistics
from gptlab.stats.paired_tests import VarianceEstimate

SD = 0.01
"""Of a seed, in the planted losses."""


def planted(random: np.random.Generator, arms: int, seeds: int) -> np.ndarray:
    """Return losses (arms, seeds): a seed's luck, and an arm's own noise."""
    return 2.0 + SD * random.standard_normal(seeds) + SD * random.standard_normal((arms, seeds))


def wide(values: np.ndarray) -> dict[str, dict[int, float]]:
    return {f"arm {number}": dict(enumerate(row)) for number, row in enumerate(values.tolist())}


def test_the_pooled_variance_is_that_of_a_two_way_analysis():
    values = planted(np.random.default_rng(1), 5, 4)
    residual = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    found = statistics.pooled_variance(wide(values))
    assert found is not None
    assert found.df == 12
    assert math.isclose(found.variance, 2 * float((residual**2).sum()) / 12, rel_tol=1e-9)


def test_the_pooled_variance_of_two_arms_is_that_of_their_differences():
    values = planted(np.random.default_rng(2), 2, 6)
    found = statistics.pooled_variance(wide(values))
    assert found is not None
    assert math.isclose(found.variance, float(np.var(values[1] - values[0], ddof=1)), rel_tol=1e-9)
    assert found.df == 5


def test_a_missing_cell_costs_one_degree_of_freedom():
    table = wide(planted(np.random.default_rng(3), 4, 4))
    del table["arm 2"][1]
    found = statistics.pooled_variance(table)
    assert found is not None
    assert found.df == 8


def test_intervals_and_chances_are_students():
    sample = [0.3, -0.1, 0.5, 0.2]
    spread = VarianceEstimate(float(np.var(sample, ddof=1)), 3)
    mean = float(np.mean(sample))
    by_scipy: Any = stats.ttest_1samp(sample, 0)
    assert statistics.p_value(mean, spread, 4) == pytest.approx(by_scipy.pvalue)
    assert statistics.t_interval(mean, spread, 4) == pytest.approx(tuple(by_scipy.confidence_interval()))


def test_holm_is_monotone_and_never_below_what_it_corrects():
    plain = {"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.5}
    found = statistics.holm_adjust(plain)
    assert found == pytest.approx({"a": 0.04, "c": 0.09, "b": 0.09, "d": 0.5})
    assert all(found[name] >= plain[name] for name in plain)


def test_power_is_what_a_simulation_finds():
    random = np.random.default_rng(5)
    samples = 1.2 + random.standard_normal((20_000, 6))
    found: Any = stats.ttest_1samp(samples, 0, axis=1)
    rejected = found.pvalue < 0.05
    assert statistics.t_test_power(1.2, VarianceEstimate(1.0, 5), 6, 0.05) == pytest.approx(
        float(rejected.mean()), abs=0.01
    )


def test_the_smallest_effect_is_seen_four_times_in_five():
    spread = VarianceEstimate(0.3, 7)
    assert statistics.t_test_power(
        statistics.minimum_detectable_effect(spread, 4, 0.02), spread, 4, 0.02
    ) == pytest.approx(0.8, abs=1e-4)


@pytest.mark.parametrize(("effect", "seeds"), [(0.5, 34), (0.75, 16), (1, 10), (1.5, 6), (2, 5), (3, 4)])
def test_seeds_needed_are_those_of_the_noncentral_t(effect: float, seeds: int):
    """The notes' table of a paired t-test: alpha 0.05, power 80 %, effects in SDs of the difference."""
    found = statistics.count_seeds_needed(effect, VarianceEstimate(1.0, 2), 3, 0.05)
    assert found is not None
    assert abs(found - seeds) <= 1


def test_what_no_study_could_see_needs_no_number_of_seeds():
    assert statistics.count_seeds_needed(1e-6, VarianceEstimate(1.0, 2), 3, 0.05) is None
    assert statistics.count_seeds_needed(0.0, VarianceEstimate(1.0, 2), 3, 0.05) is None
