"""Noise that differs between arms does not fool the verdicts, and noise that is equal costs them little."""

import math

import numpy as np
import planted_noise as planted
import pytest
from scipy import stats

from gptlab.stats.contrasts import DecisionRule, compare_pairs
from gptlab.stats.moderation import choose_variances, compare_noise
from gptlab.stats.results import METRICS

FEW, MANY = 4, 12
"""Arms of a small and of a large study."""


def as_table(losses: planted.Array) -> dict[str, dict[int, float]]:
    return {f"arm {number:02}": dict(enumerate(row)) for number, row in enumerate(losses.tolist())}


@pytest.mark.parametrize("noise", ["normal", "one x6", "baseline x3"])
@pytest.mark.parametrize(("arms", "seeds"), [(2, 4), (3, 4), (4, 4), (7, 4), (3, 5), (4, 5), (7, 5)])
def test_the_closed_form_is_what_a_study_computes(arms: int, seeds: int, noise: str):
    losses = planted.plant_losses(1, 30, arms, seeds, noise)
    variance, df, interval_df = planted.moderated_variances(losses)
    for number, study in enumerate(losses):
        table = as_table(study)
        base, *others = table
        found = choose_variances(table, [(arm, base) for arm in others], "moderated", frozenset())
        assert [found[arm, base].variance for arm in others] == pytest.approx(variance[number].tolist(), rel=1e-7)
        assert [found[arm, base].df for arm in others] == pytest.approx(df[number].tolist(), rel=1e-7)
        counted = [found[arm, base].interval_df or found[arm, base].df for arm in others]
        assert counted == pytest.approx(interval_df[number].tolist(), rel=1e-7)


def test_the_noise_of_an_arm_is_that_of_its_distance_from_the_others_mean():
    losses = planted.plant_losses(2, 1, 5, 6)[0]
    noise = compare_noise(as_table(losses))["arm 02"]
    rest = np.delete(losses, 2, 0)
    assert math.isclose(noise.variance, float((losses[2] - rest.mean(0)).var(ddof=1)) / (1 + 1 / 4), rel_tol=1e-9)
    assert (noise.df, noise.others_df) == (5, 15)


def test_chance_finds_an_equal_arm_noisy_as_often_as_it_says():
    studies = planted.plant_losses(3, 400, 4, 3)
    p = [noise.p for losses in studies for noise in compare_noise(as_table(losses)).values()]
    assert [float(np.mean(np.array(p) < level)) for level in (0.1, 0.5)] == pytest.approx([0.1, 0.5], abs=0.03)


def test_an_arm_far_noisier_than_the_others_keeps_its_own_variance_and_the_others_share_theirs():
    losses = planted.plant_losses(4, 1, 6, 5)[0]
    losses[1] += 100 * planted.plant_losses(5, 1, 1, 5)[0, 0]
    table = as_table(losses)
    found = choose_variances(table, [(arm, "arm 00") for arm in table if arm != "arm 00"], "moderated", frozenset())
    own = float((losses[1] - losses[0]).var(ddof=1))
    assert found["arm 01", "arm 00"].variance == pytest.approx(own, rel=0.01)
    assert found["arm 01", "arm 00"].df == pytest.approx(4, rel=0.01)
    assert found["arm 03", "arm 00"].df > 10


@pytest.mark.parametrize("arms", [FEW, MANY])
def test_an_arm_far_noisier_than_the_others_leaves_their_intervals_as_they_are(arms: int):
    losses, equal = (planted.plant_losses(10, 4000, arms, 5, noise) for noise in ("one x6", "normal"))
    widths = [np.median(planted.moderated_variances(study)[0][:, 1:]) ** 0.5 for study in (losses, equal)]
    assert widths[0] <= 1.1 * widths[1]


@pytest.mark.parametrize("noise", planted.NOISES)
@pytest.mark.parametrize("arms", [FEW, MANY])
def test_unequal_noise_makes_few_false_verdicts(arms: int, noise: str):
    false, _, covered = planted.judge(planted.plant_losses(6, 4000, arms, 3, noise), planted.moderated_variances)
    assert false <= 0.075 + 2 * ERROR
    assert covered >= 0.92 - 0.004


@pytest.mark.parametrize("arms", [3, FEW])
def test_one_noisy_arm_of_few_makes_false_verdicts_no_oftener_than_the_goal(arms: int):
    losses = planted.plant_losses(1, 40_000, arms, 3, "one x6")  # its share is known to 0.0013
    assert planted.judge(losses, planted.moderated_variances)[0] <= 0.075


ERROR = 0.0042
"""Standard error of a share of 0.075 over 4,000 studies."""


@pytest.mark.parametrize(("arms", "least"), [(FEW, 0.58), (MANY, 0.51)])
def test_equal_noise_costs_little_power(arms: int, least: float):
    losses = planted.plant_losses(7, 4000, arms, 3, effect=3.0)
    assert planted.judge(losses, planted.moderated_variances, 3.0)[1] >= least


@pytest.mark.parametrize("arms", [3, FEW])
def test_few_equal_arms_lose_little_to_a_pooled_variance(arms: int):
    losses = planted.plant_losses(7, 40_000, arms, 3, effect=3.0)
    pooled, moderated = (
        planted.judge(losses, method, 3.0)[1] for method in (planted.pooled_variances, planted.moderated_variances)
    )
    assert pooled - moderated <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize("noise", planted.NOISES)
@pytest.mark.parametrize("seeds", [3, 5, 8])
@pytest.mark.parametrize("arms", [2, 3, 4, 6, 8, 12])
def test_the_whole_grid(arms: int, seeds: int, noise: str):
    false, _, covered = planted.judge(planted.plant_losses(8, 20_000, arms, seeds, noise), planted.moderated_variances)
    assert false <= 0.075 + 0.004
    assert covered >= 0.92


def test_a_difference_whose_interval_holds_zero_is_not_resolved_however_small_its_p():
    losses = planted.plant_losses(9, 4000, 3, 3, effect=2.0)
    losses[:, 1] -= 8  # so that Holm's second step judges the last arm at all of alpha
    variance, df, interval_df = planted.moderated_variances(losses)
    t = abs((losses[:, 1:] - losses[:, :1]).mean(2)) / np.sqrt(variance / 3)
    between = (t[:, 1] > stats.t.isf(0.025, df[:, 1])) & (t[:, 1] < stats.t.isf(0.025, interval_df[:, 1]))
    number = int(np.flatnonzero(between & (t[:, 0] > stats.t.isf(0.0125, df[:, 0])))[0])
    table = as_table(losses[number])
    pairs = [("arm 01", "arm 00"), ("arm 02", "arm 00")]
    variances = choose_variances(table, pairs, "moderated", frozenset())
    rule = DecisionRule(METRICS[0], 0.0, 0.05, frozenset())
    contrast = compare_pairs(rule, table, variances, pairs)[1]
    assert contrast.p_holm < contrast.level
    assert contrast.interval_df < contrast.df
    assert contrast.low < 0 < contrast.high
    assert contrast.verdict == "not resolved"
