"""The statistics hold on planted data: error rates, power and coverage by simulation, formulas by other means."""

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
from scipy import stats

from gptlab.stats import paired_tests as statistics
from gptlab.stats.metric_comparison import MODERATE_FROM, choose_variances
from gptlab.stats.paired_tests import VarianceEstimate

SD = 0.01
"""Of a seed, in the planted losses."""


def planted(random: np.random.Generator, arms: int, seeds: int, wild: float = 0.0, effect: float = 0.0) -> np.ndarray:
    """(arms, seeds) losses: a seed's luck, an arm's own noise, whose log SD varies by `wild`; the last arm is better by
    `effect` SDs."""
    noise = SD * np.exp(wild * random.standard_normal((arms, 1)))
    values = 2.0 + SD * random.standard_normal(seeds) + noise * random.standard_normal((arms, seeds))
    values[-1] -= effect * SD
    return values


def judged(values: np.ndarray) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Holm's p and the 95 % interval of each arm against the first."""
    names = [f"arm {number}" for number in range(len(values))]
    table = {name: dict(enumerate(row)) for name, row in zip(names, values.tolist(), strict=True)}
    pairs = [(name, names[0]) for name in names[1:]]
    kind = "pooled" if len(pairs) < MODERATE_FROM else "moderated"
    spreads = choose_variances(table, pairs, kind, frozenset())
    n = values.shape[1]
    means = {pair[0]: float(np.mean(values[names.index(pair[0])] - values[0])) for pair in pairs}
    p = statistics.holm_adjust({pair[0]: statistics.p_value(means[pair[0]], spreads[pair], n) for pair in pairs})
    return p, {pair[0]: statistics.t_interval(means[pair[0]], spreads[pair], n) for pair in pairs}


@cache
def rates(arms: int, seeds: int, wild: float, effect: float = 0.0, repeats: int = 2000) -> tuple[float, float, float]:
    """How often some arm without an effect is called different, the last one is, and an interval holds the truth."""
    random = np.random.default_rng(arms * 1000 + seeds * 10 + round(wild * 7))
    false = seen = covered = 0
    for _ in range(repeats):
        p, intervals = judged(planted(random, arms, seeds, wild, effect))
        last = f"arm {arms - 1}"
        false += any(value < 0.05 for name, value in p.items() if name != last or not effect)
        seen += p[last] < 0.05
        truth = {name: -effect * SD if name == last else 0.0 for name in intervals}
        covered += sum(low <= truth[name] <= high for name, (low, high) in intervals.items())
    return false / repeats, seen / repeats, covered / repeats / (arms - 1)


@pytest.mark.parametrize(("wild", "most"), [(0.0, 0.075), (0.9, 0.13)])
def test_eight_equal_arms_are_seldom_called_different(wild: float, most: float):
    assert rates(8, 3, wild)[0] <= most


@pytest.mark.parametrize("arms", [3, 8])
def test_an_effect_of_three_sds_is_seen_more_often_than_not(arms: int):
    assert rates(arms, 3, 0.0, effect=3.0)[1] >= 0.5


@pytest.mark.parametrize(
    ("arms", "wild", "least", "most"), [(4, 0.0, 0.93, 0.97), (8, 0.0, 0.93, 0.97), (8, 0.9, 0.91, 1)]
)
def test_intervals_hold_the_truth_as_often_as_they_say(arms: int, wild: float, least: float, most: float):
    assert least <= rates(arms, 3, wild)[2] <= most


# -- formulas, by other means


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


def test_the_prior_of_variances_is_found_again():
    random = np.random.default_rng(4)
    prior, typical, df = 8.0, 3.0, 4.0
    true = typical * prior / random.chisquare(prior, 40_000)
    sampled = true * random.chisquare(df, 40_000) / df
    found = statistics.fit_variance_prior(sampled, np.full(40_000, df))
    assert found == pytest.approx((prior, typical), rel=0.06)


def test_a_moderated_variance_lies_between_the_own_and_the_typical_one():
    own = {
        "a": VarianceEstimate(1.0, 2),
        "b": VarianceEstimate(4.0, 2),
        "c": VarianceEstimate(0.001, 2),
        "d": VarianceEstimate(900.0, 2),
    }
    found = statistics.moderate_variances(own)
    prior, typical = statistics.fit_variance_prior(
        np.array([own[name].variance for name in sorted(own)]), np.full(4, 2.0)
    )
    for name, one in own.items():
        assert found[name].variance == pytest.approx((prior * typical + 2 * one.variance) / (prior + 2))
        assert found[name].df == pytest.approx(min(prior + 2, 8))


def test_equal_variances_are_pooled_wholly():
    found = statistics.moderate_variances({name: VarianceEstimate(2.0, 2) for name in "abcdef"})
    assert {one.df for one in found.values()} == {12.0}


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
