"""A study may be looked at as often as planned: errors stay at alpha, intervals right, and power is nearly kept."""

from dataclasses import asdict, replace

import numpy as np
import planted_noise as planted
import pytest
from planted_looks import judge_by_looks
from planted_runs import judged, loss, runs
from scipy import stats

from gptlab.report.text.looks import describe_plan_position
from gptlab.stats.contrasts import LaterLevels, chance_to_resolve
from gptlab.stats.spending import ALPHA, SPENDING, LookPlan, Spending, compute_levels

LOOKS = (3, 5, 8)
KINDS: list[Spending] = ["pocock", "obrien_fleming"]


@pytest.mark.parametrize("spending", [*KINDS, "hwang_shih_decani"])
@pytest.mark.parametrize("looks", [(8,), LOOKS, (2, 3, 4, 5, 6, 7, 8)])
def test_levels_spend_alpha_and_no_more_on_the_clock_of_degrees_of_freedom(looks: tuple[int, ...], spending: Spending):
    path = np.random.default_rng(0).standard_normal((200_000, 7)).cumsum(1)
    levels = compute_levels(looks, 8, spending, 0.05)
    crossed = np.zeros(len(path), bool)
    for look, level in zip(looks, levels, strict=True):
        crossed |= 2 * stats.norm.sf(abs(path[:, look - 2]) / np.sqrt(look - 1)) < level
        assert float(crossed.mean()) == pytest.approx(SPENDING[spending](look / 8, 0.05), abs=0.0015)


def test_a_single_look_has_all_of_alpha():
    assert LookPlan((5,)).find_level(5, 3) == pytest.approx(ALPHA)
    assert LookPlan((5,)).find_equivalence_level(5) == pytest.approx(ALPHA)


def test_a_study_that_was_not_looked_at_before_spends_at_once_what_its_seeds_allow():
    first, later = LookPlan(LOOKS), LookPlan(LOOKS, looked=(3,))
    assert first.find_level(5) == pytest.approx(SPENDING["pocock"](5 / 8, ALPHA))
    assert first.find_level(8) == pytest.approx(ALPHA)
    assert later.find_level(5) < first.find_level(5)
    assert later.find_level(8) > LookPlan(LOOKS, looked=(3, 5)).find_level(8)


def test_a_look_before_between_or_after_the_planned_ones_says_so():
    plan = LookPlan(LOOKS)
    assert [plan.describe(seeds, 1).place for seeds in (2, 3, 4, 8, 9)] == [
        *("before", "planned", "between", "planned", "after")
    ]
    assert plan.describe(4, 1).spent == pytest.approx(SPENDING["pocock"](0.5, ALPHA))
    assert plan.find_level(12) == plan.find_level(8)


def test_two_seeds_before_the_first_look_are_said_to_say_almost_nothing():
    words = {seeds: describe_plan_position([3, 5, 8], "pocock", seeds) for seeds in (1, 2, 3, 4)}
    assert words[2].endswith("spent; two seeds say almost nothing, the first look is at 3")
    assert [seeds for seeds, line in words.items() if "almost nothing" in line] == [2]


@pytest.mark.few(3)
@pytest.mark.parametrize("spending", KINDS)
@pytest.mark.parametrize("arms", [2, 4, 12])
def test_following_the_looks_to_the_letter_errs_in_one_study_of_twenty(arms: int, spending: Spending):
    found = judge_by_looks(planted.plant_losses(11, 6000, arms, 8), LookPlan(LOOKS, spending))
    assert found.different.any(1).mean() <= 0.055 + 2 * 0.003  # standard error of 6,000 studies
    assert found.covered.mean() >= 0.94


@pytest.mark.slow
@pytest.mark.parametrize("noise", planted.NOISES)
@pytest.mark.parametrize("arms", [2, 4, 12])
def test_all_looks_together_err_little_whatever_the_noise(arms: int, noise: str):
    found = judge_by_looks(planted.plant_losses(12, 20_000, arms, 8, noise), LookPlan(LOOKS, "pocock"))
    assert found.different.any(1).mean() <= 0.075 + 0.004
    assert found.covered.mean() >= 0.94


def test_looks_without_a_plan_would_err_in_one_study_of_eight():
    losses = planted.plant_losses(11, 10_000, 2, 8)
    called = [planted.judge(losses[:, :, :look], planted.own_variances)[0] for look in LOOKS]
    every = np.zeros(len(losses), bool)
    for look in LOOKS:
        variance, df, _ = (array[:, 0] for array in planted.own_variances(losses[:, :, :look]))
        t = (losses[:, 1, :look] - losses[:, 0, :look]).mean(1) / np.sqrt(variance / look)
        every |= 2 * stats.t.sf(abs(t), df) < ALPHA
    assert max(called) < 0.06
    assert every.mean() > 0.1


# Pocock-like spending costs more where a single look would see four differences in five: docs/log.md, 2026-11-29
@pytest.mark.few(3)
@pytest.mark.parametrize(
    ("spending", "effects"), [("pocock", (3.0,)), ("hwang_shih_decani", (2.0,)), ("obrien_fleming", (2.0, 3.0))]
)
@pytest.mark.parametrize("arms", [2, 4, 12])
def test_looking_costs_little_power(arms: int, spending: Spending, effects: tuple[float, ...]):
    for effect in effects:
        losses = planted.plant_losses(12, 3000, arms, 8, effect=effect)
        once, often = (judge_by_looks(losses, plan).different for plan in (LookPlan((8,)), LookPlan(LOOKS, spending)))
        assert once[:, -1].mean() - often[:, -1].mean() <= 0.03


def test_equal_arms_are_seldom_called_equivalent_where_they_differ_by_the_margin():
    losses = planted.plant_losses(13, 10_000, 2, 8, effect=2.0)
    found = judge_by_looks(losses, LookPlan(LOOKS), delta=2.0)
    assert found.equivalent.mean() <= 0.055


def test_the_chance_of_a_later_look_is_what_comes_of_it():
    losses = planted.plant_losses(14, 40_000, 2, 8)
    losses[:, 1] += 2 * np.random.default_rng(0).standard_normal((40_000, 1))  # any effect may be
    first, last = (planted.own_variances(losses[:, :, :look]) for look in (3, 8))
    ahead = LookPlan(LOOKS, looked=(3, 5))
    difference = {look: (losses[:, 1, :look] - losses[:, 0, :look]).mean(1) for look in (3, 8)}
    chance = chance_to_resolve(
        difference[3],
        first[0][:, 0],
        2.0,
        n=3,
        later=8,
        levels=LaterLevels(ahead.find_level(8), ahead.find_level(8), ahead.find_equivalence_level(8)),
        interval_df=2.0,
        delta=0.0,
    )
    t = abs(difference[8]) / np.sqrt(last[0][:, 0] / 8)
    resolved = 2 * stats.t.sf(t, 7) < ahead.find_level(8)
    for low, high in ((0, 0.1), (0.1, 0.4), (0.4, 0.7), (0.7, 0.9), (0.9, 1)):
        within = (chance >= low) & (chance < high)
        assert float(resolved[within].mean()) == pytest.approx(float(chance[within].mean()), abs=0.1)


# -- what a study prints


def test_a_look_widens_intervals_and_asks_more_of_a_difference():
    plain, looked = loss(judged(runs(other=-0.01))), loss(judged(runs(other=-0.01), looks=[3, 5, 8]))
    (once,), (often,) = plain.contrasts, looked.contrasts
    assert (once.level, often.level) == (0.05, pytest.approx(SPENDING["pocock"](3 / 8, ALPHA)))
    assert often.low < once.low < once.high < often.high
    assert plain.look is None
    assert looked.look is not None
    assert (looked.look.seeds, looked.look.number, looked.look.place) == (3, 1, "planned")


def test_a_difference_between_two_levels_is_better_in_one_look_alone():
    found = [
        replace(run, values={"val/loss": 2.0 - (run.arm == "other") * (0.05 + 0.022 * run.seed)})
        for run in runs(3, other=0)
    ]
    (once,) = loss(judged(found, looks=[3])).contrasts
    (often,) = loss(judged(found, looks=[3, 5, 8])).contrasts
    assert often.level < once.p < once.level
    assert (once.verdict, often.verdict) == ("better", "not resolved")
    assert (often.next_look, often.more_seeds) == (5, 2)
    assert often.chance is not None
    assert often.chance_at_last is not None
    assert often.chance < often.chance_at_last


def test_more_seeds_than_planned_are_exploratory():
    found = loss(judged(runs(5, other=-0.3), looks=[2, 3], looked=[2, 3, 5]))
    assert [one.exploratory for one in found.contrasts] == [True]
    assert found.look is not None
    assert found.look.place == "after"
    assert not loss(judged(runs(3, other=-0.3), looks=[2, 3])).contrasts[0].exploratory


def test_an_arm_that_stopped_at_a_look_is_judged_by_what_was_seen_then():
    all_seeds = runs(5, early=-0.3, later=-0.002, third=0.001)
    first = [run for run in all_seeds if run.seed < 3]
    raced = [run for run in all_seeds if run.arm != "early" or run.seed < 3]
    then = {one.arm: one for one in loss(judged(first, looks=[3, 5], looked=[3])).contrasts}
    now = {one.arm: one for one in loss(judged(raced, looks=[3, 5], looked=[3, 5])).contrasts}
    assert asdict(now["early"]) == asdict(then["early"])
    assert now["later"].seeds == (0, 1, 2, 3, 4)
    assert loss(judged(raced, looks=[3, 5], looked=[3, 5])).notes == [
        "early stopped at the look at 3 seeds, and is judged by these"
    ]
    assert all(now[arm].p_holm <= 2 * now[arm].p for arm in ("later", "third"))  # of three: one is better already


def test_what_no_planned_look_can_resolve_names_no_seeds():
    flat = [
        replace(run, values={"val/loss": 2.0 + (run.arm == "other") * (0.3 * (run.seed - 1) + 0.0001)})
        for run in runs(3, other=0)
    ]
    (one,) = loss(judged(flat, looks=[3, 4])).contrasts
    assert (one.verdict, one.more_seeds, one.next_look) == ("not resolved", None, 4)
    assert one.chance_at_last is not None
    assert one.chance_at_last < 0.1


def test_fresh_seeds_are_judged_once_whatever_the_plan():
    fresh = [replace(run, role="confirm", seed=run.seed + 10) for run in runs(3, other=-0.3)]
    confirmed = judged([*runs(other=-0.3), *fresh], looks=[3, 5, 8]).strata[0].confirmed
    assert confirmed is not None
    assert confirmed.look is None
    assert confirmed.contrasts[0].level == ALPHA
