"""What is concluded from runs, planted so that one knows what is right."""

import json
import math
import random
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from planted_runs import NOISE, OWN, PLAN, judged, loss, runs
from scipy import stats

from gptlab.runs.record import to_json
from gptlab.stats import compute_value as exchange
from gptlab.stats.results import Findings, Run
from gptlab.stats.study_comparison import compare_study


def verdicts(found: Findings) -> dict[str, str]:
    return {one.arm: one.verdict for one in loss(found).contrasts}


def test_a_huge_effect_is_called_from_three_seeds():
    found = judged(runs(other=-0.3, worse=0.3))
    assert verdicts(found) == {"other": "better", "worse": "worse"}
    assert loss(found).variance == "moderated"


def test_higher_is_better_where_it_is():
    found = [
        replace(run, values={**run.values, "val/word_accuracy": run.values["val/loss"] / 4}) for run in runs(other=0.3)
    ]
    words = next(one for one in judged(found).strata[0].comparisons if one.metric.key == "val/word_accuracy")
    assert [one.verdict for one in words.contrasts] == ["better"]


def test_a_difference_that_is_certain_and_too_small_to_matter_is_equivalent():
    found = judged(runs(seeds=5, other=-0.003))
    (one,) = loss(found).contrasts
    assert one.p_holm < 0.05
    assert one.verdict == "equivalent"
    assert verdicts(judged(runs(seeds=5, other=-0.003), delta=1e-4)) == {"other": "better"}


def test_what_is_not_resolved_says_how_many_seeds_it_takes():
    noisy = [
        replace(
            run,
            values={
                "val/loss": 2 + (0.1 if run.arm == "other" else -0.1) * (run.seed - 1) - 0.05 * (run.arm == "other")
            },
        )
        for run in runs(other=0.0)
    ]
    (one,) = loss(judged(noisy)).contrasts
    assert one.verdict == "not resolved"
    assert one.more_seeds is not None
    assert one.more_minutes == pytest.approx(one.more_seeds * 1.0)  # of both arms


def test_one_seed_gives_no_verdict():
    found = judged(runs(seeds=1, other=-0.3))
    assert verdicts(found) == {"other": "no verdict"}
    assert loss(found).variance == "none"


def test_an_arm_that_diverged_is_unstable_and_not_averaged_in():
    broken = [
        replace(run, status="diverged", values={}) if (run.arm, run.seed) == ("other", 1) else run
        for run in runs(other=-0.3)
    ]
    found = judged(broken)
    (one,) = loss(found).contrasts
    assert one.verdict == "unstable"
    assert one.seeds == (0, 2)
    assert any("other diverged in 1 of 3" in note for note in loss(found).notes)


def test_a_baseline_that_diverged_makes_no_other_arm_unstable():
    broken = [
        replace(run, status="diverged", values={}) if (run.arm, run.seed) == ("base", 1) else run
        for run in runs(other=-0.3)
    ]
    comparison = loss(judged(broken))
    (one,) = comparison.contrasts
    assert (one.seeds, one.verdict, one.sd) == ((0, 2), "better", one.own_sd)
    assert any("the baseline base is unstable" in note for note in comparison.notes)


def test_an_unstable_arm_does_not_trouble_the_others():
    stable = judged(runs(calm=-0.02))
    wild = [Run("wild", seed, "finished", {"val/loss": 2.0 + seed}) for seed in range(2)] + [Run("wild", 2, "diverged")]
    (before,), after = loss(stable).contrasts, loss(judged([*runs(calm=-0.02), *wild])).contrasts
    assert after[0].arm == "calm"
    assert after[0].sd == pytest.approx(before.sd)


def test_seeds_that_only_one_has_are_left_out_and_said():
    found = judged([run for run in runs(other=-0.3) if (run.arm, run.seed) != ("other", 0)])
    assert loss(found).contrasts[0].seeds == (1, 2)
    assert any("2 seeds in common" in note for note in loss(found).notes)


def test_nan_is_no_number():
    bad = [
        replace(run, values={"val/loss": math.nan}) if (run.arm, run.seed) == ("other", 0) else run
        for run in runs(other=-0.3)
    ]
    found = judged(bad)
    assert loss(found).contrasts[0].seeds == (1, 2)
    assert "NaN" not in to_json(asdict(found))


def test_whatever_became_of_the_cells_all_numbers_are_finite():
    dice = random.Random(0)
    for _ in range(60):
        found = [
            replace(
                run,
                values={key: dice.choice([number, 2.0, math.nan]) for key, number in run.values.items()},
                status=dice.choice(["finished", "finished", "diverged", "failed", "missing"]),
                lr=dice.choice([1e-3, 1e-2]),
            )
            for run in [*runs(dice.randint(1, 4), a=0.0, b=-0.3), *sized(base=-0.1, a=-0.2), *ladder(-1e-5)]
            if dice.random() < 0.9
        ]
        knobs = {"tune": dice.choice(["shared", "grid"]), "variance": dice.choice(["auto", "own", "moderated"])}
        made = judged(found, pairs=True, **knobs)
        strata = [asdict(replace(stratum, runs=[])) for stratum in made.strata]
        json.dumps([strata, [asdict(one) for one in made.scalings]], allow_nan=False)


def test_without_a_baseline_nothing_is_compared_and_that_is_said():
    found = judged([run for run in runs(other=-0.3) if run.arm != "base"])
    assert not loss(found).contrasts
    assert any("nothing can be compared with it" in note for note in loss(found).notes)


def test_the_order_of_runs_changes_no_bit():
    plain = runs(seeds=5, a=-0.01, b=0.002, c=0.0, d=0.01, e=-0.004, f=0.3)
    shuffled = random.Random(0).sample(plain, len(plain))
    assert judged(plain).strata == judged(shuffled).strata


def test_many_arms_are_moderated_unless_asked_otherwise():
    many = runs(a=-0.01, b=0.002, c=0.0, d=0.01, e=-0.004)
    assert loss(judged(many)).variance == "moderated"
    own = loss(judged(many, variance="own"))
    assert own.variance == "own"
    assert all(one.p == one.p_own for one in own.contrasts)


def test_an_arm_that_is_the_baseline_is_equivalent():
    same = [run for run in runs() if run.arm == "base"]
    found = judged([*same, *(replace(run, arm="same") for run in same)])
    (one,) = loss(found).contrasts
    assert (one.difference, one.low, one.high, one.verdict) == (0, 0, 0, "equivalent")
    assert loss(found).noise is not None


@pytest.mark.parametrize("others", [1, 6])
def test_the_same_thing_under_two_names_troubles_nobody(others: int):
    plain = runs(3, **{f"arm{at}": 0.01 * at for at in range(1, others + 1)})
    twin = [replace(run, arm="same") for run in plain if run.arm == "base"]
    before, after = (
        {one.arm: one for one in loss(judged(found, variance="moderated" if others > 1 else "pooled")).contrasts}
        for found in (plain, [*plain, *twin])
    )
    assert after["same"].verdict == "equivalent"
    assert all(after[arm].sd == pytest.approx(one.sd) for arm, one in before.items())


def test_all_pairs_are_corrected_for_their_number():
    found = loss(judged(runs(a=-0.01, b=0.002), pairs=True))
    assert {(one.arm, one.against) for one in found.pairs} == {("a", "b"), ("a", "base"), ("b", "base")}
    assert all(pair.p_holm >= pair.p for pair in found.pairs)


def test_pairing_gains_what_seeds_share():
    noise = loss(judged(runs(seeds=5, a=-0.01, b=0.002))).noise
    assert noise is not None
    assert noise.gain > 5
    assert noise.rho > 0.8


def ladder(slope: float = -0.2) -> list[Run]:
    return [
        Run(
            "base",
            seed,
            "finished",
            {"val/loss": 2.0 + slope * math.log(part) + NOISE[seed]},
            role="budget",
            budget=part,
        )
        for seed in range(3)
        for part in (0.5, 2.0)
    ]


def test_a_budget_ladder_prices_a_difference():
    found = judged([*runs(other=-0.05), *ladder()])
    priced = found.strata[0].exchange
    assert priced is not None
    assert priced.slope == pytest.approx(-0.2, rel=0.02)
    factor, low, high = priced.equivalents["other"]
    assert low < math.exp(0.05 / 0.2) < high
    assert factor == pytest.approx(math.exp(0.05 / 0.2), rel=0.02)
    assert loss(found).delta == pytest.approx(abs(priced.slope) * math.log(1.02))
    assert not priced.net


@pytest.mark.parametrize("budgets", [(1.0, 2.0), (0.5, 1.0, 2.0)])
def test_the_error_of_a_slope_is_what_seeds_say(budgets: tuple[float, ...]):
    dice, covered = np.random.default_rng(0), 0
    for _ in range(1000):
        luck, own = dice.normal(0, 0.01, 3), dice.normal(0, 0.01, (3, 3))
        made = exchange.fit_budget_slope(
            [
                Run(
                    "base", seed, "finished", {"val/loss": 2 - 0.2 * math.log(b) + luck[seed] + own[seed, at]}, budget=b
                )
                for seed in range(3)
                for at, b in enumerate(budgets)
            ],
            [],
        )
        assert made is not None
        covered += abs(made.slope + 0.2) <= stats.t.ppf(0.975, made.df) * made.error
    assert 0.93 <= covered / 1000 <= 0.97


def test_a_slope_without_an_error_prices_nothing():
    one_seed = [run for run in ladder() if run.seed == 0 and run.budget == 2.0]
    stratum = judged([*runs(seeds=1, other=-0.05), *one_seed]).strata[0]
    assert stratum.exchange is None
    assert "0.5 %" in stratum.comparisons[0].delta_from


def test_net_of_speed_a_slower_arm_is_worth_less():
    timed = {"time/step_ms": {"base": [10.0] * 9, "other": [12.0] * 9, "A/A": [10.1] * 9}}
    found = compare_study(PLAN, [*runs(other=-0.05), *ladder()], timed)
    priced = found.strata[0].exchange
    assert priced is not None
    assert priced.net["other"][0] == pytest.approx(-0.05 + 0.2 * math.log(1.2), abs=0.002)
    assert found.strata[0].timings[0].verdicts == {"other": "worse"}


@pytest.mark.parametrize(
    ("other", "again", "verdict"),
    [(10.3, 10.5, "not resolved"), (10.0, 10.5, "not resolved"), (10.3, 10.2, "worse"), (10.1, 10.15, "equivalent")],
)
def test_no_speed_verdict_within_what_the_baseline_differs_from_itself(other: float, again: float, verdict: str):
    timed = {"time/step_ms": {"base": [10.0] * 9, "other": [other] * 9, "A/A": [again] * 9}}
    (timing,) = compare_study(PLAN, runs(other=-0.05), timed).strata[0].timings
    assert timing.verdicts == {"other": verdict}
    assert timing.spread == pytest.approx(again / 10 - 1)


@pytest.mark.parametrize(("names", "rounds", "verdict"), [(("base", "A/A"), 5, "no verdict"), (("base",), 9, None)])
def test_no_speed_verdict_without_its_control_or_from_few_rounds(names: tuple[str, ...], rounds: int, verdict: Any):
    timed = {"time/step_ms": {name: [10.0] * rounds for name in names} | {"other": [20.0] * rounds}}
    timings = compare_study(PLAN, runs(other=-0.05), timed).strata[0].timings
    assert [one.verdicts["other"] for one in timings] == ([verdict] if verdict else [])


def test_the_front_keeps_what_nothing_beats():
    cheap = [
        replace(run, values={**run.values, "params": {"base": 100, "good": 50, "bad": 200}[run.arm]})
        for run in runs(good=-0.3, bad=0.3)
    ]
    fronts = {front.cost.key: front for front in judged(cheap).strata[0].fronts}
    assert fronts["params"].front == ["good"]
    assert set(fronts["params"].dominated) == {"base", "bad"}


def test_every_arm_is_judged_at_its_best_learning_rate():
    found = []
    for arm, best in (("base", 0.003), ("other", 0.01)):
        for lr in (0.001, 0.003, 0.01):
            off = 0.1 * abs(math.log(lr / best)) - (0.3 if arm == "other" else 0)
            found += [replace(run, arm=arm, lr=lr, values={"val/loss": run.values["val/loss"] + off}) for run in runs()]
    stratum = judged(found, tune="grid").strata[0]
    assert [(one.arm, one.best, one.edge) for one in stratum.tunings] == [("base", 0.003, False), ("other", 0.01, True)]
    assert verdicts(judged(found, tune="grid")) == {"other": "better"}
    assert stratum.tunings[0].sensitivity == pytest.approx(0.1 * (math.log(3) + math.log(10 / 3)) / 3, rel=1e-6)


def test_a_rate_that_diverges_in_a_seed_is_not_the_best():
    found = [replace(run, lr=lr) for lr in (0.001, 0.01) for run in runs()]
    found = [replace(run, values={"val/loss": 1.0}) if run.lr == 0.01 else run for run in found]
    found = [replace(run, status="diverged") if (run.lr, run.seed) == (0.01, 2) else run for run in found]
    assert judged(found, tune="grid").strata[0].tunings[0].best == 0.001


def test_a_rate_that_failed_leaves_the_sensitivity_unknown():
    found = [replace(run, lr=lr) for lr in (0.001, 0.003) for run in runs()]
    found = [replace(run, values={"val/loss": math.nan}) if (run.lr, run.seed) == (0.003, 2) else run for run in found]
    (tuning,) = judged(found, tune="grid").strata[0].tunings
    assert (tuning.best, tuning.sensitivity) == (0.001, None)
    assert tuning.losses[0.003] is not None


def test_one_seed_beats_nothing_on_a_front():
    cheap = [replace(run, values={**run.values, "params": 100 + len(run.arm)}) for run in runs(seeds=1, other=-0.3)]
    assert not judged(cheap).strata[0].fronts


def test_fresh_seeds_are_judged_alone():
    fresh = [
        replace(run, role="confirm", seed=run.seed + 10, values={"val/loss": 2.0 + 0.001 * run.seed})
        for run in runs(other=-0.3)
    ]
    confirmed = judged([*runs(other=-0.3), *fresh]).strata[0].confirmed
    assert confirmed is not None
    assert verdicts(judged(runs(other=-0.3))) == {"other": "better"}
    assert confirmed.contrasts[0].seeds == (10, 11, 12)
    assert confirmed.contrasts[0].verdict == "equivalent"


def sized(**slopes: float) -> list[Run]:
    return [
        Run(
            arm,
            seed,
            "finished",
            {
                "val/loss": 3 + slope * math.log(n / 1e5) + NOISE[seed] + OWN[(seed + at) % 7] / 9,
                "params": n,
                "flops_per_token": 6 * n,
                "tokens": 1e5,
            },
            size,
        )
        for arm, slope in slopes.items()
        for at, (size, n) in enumerate({"nano": 1e5, "micro": 8e5, "mini": 3e6}.items())
        for seed in range(3)
    ]


def test_three_sizes_are_fitted_and_a_winner_that_changes_is_said():
    found = compare_study(PLAN, sized(base=-0.1, other=-0.15))
    assert [stratum.size for stratum in found.strata] == ["nano", "micro", "mini"]
    slopes = {one.arm: (one.low, one.slope, one.high) for one in found.scalings if one.against == "params"}
    assert slopes["base"][0] < -0.1 < slopes["base"][2]
    assert slopes["other"][1] == pytest.approx(-0.15, abs=0.002)
    crossing = compare_study(
        PLAN,
        [
            replace(run, values={**run.values, "val/loss": run.values["val/loss"] + 0.05 * (run.arm == "other")})
            for run in sized(base=-0.1, other=-0.15)
        ],
    )
    assert any("changes with size" in note for note in crossing.notes)


def test_an_arm_that_is_noisier_than_the_others_is_named():
    plain = runs(5, a=-0.01, b=0.002, wild=0.0)
    wild = [
        replace(run, values={"val/loss": run.values["val/loss"] + 0.1 * (-1) ** run.seed}) if run.arm == "wild" else run
        for run in plain
    ]
    (note,) = loss(judged(wild)).noisy
    assert note.startswith("wild is noisier than the others (SD 0.")
    assert not loss(judged(plain)).noisy


def test_a_baseline_that_is_noisier_widens_every_interval():
    plain = runs(5, a=-0.01, b=0.002)
    noisy = [
        replace(run, values={"val/loss": run.values["val/loss"] + 0.1 * (-1) ** run.seed}) if run.arm == "base" else run
        for run in plain
    ]
    before, after = loss(judged(plain)), loss(judged(noisy))
    assert any("the baseline base is noisier" in note for note in after.noisy)
    assert all(
        new.high - new.low > 20 * (old.high - old.low)
        for old, new in zip(before.contrasts, after.contrasts, strict=True)
    )
