"""Interactions of two axes: planted ones come back, chance makes few, and each is the formula written out."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from planted_runs import PLAN
from scipy import stats

from gptlab.report.render.answer import answer_with_findings
from gptlab.report.render.html import render_page
from gptlab.report.render.markdown import render_markdown
from gptlab.report.study import build_study_report
from gptlab.stats.interactions.findings import Interaction
from gptlab.stats.results import Run
from gptlab.stats.study_comparison import compare_study
from gptlab.stats.study_plan import StudyPlan

AXES = {"norm": ["rmsnorm", "layernorm"], "mlp": ["swiglu", "gelu"]}
BOTH = "norm=layernorm mlp=gelu"


def make_plan(axes: dict[str, list[str]], **knobs: object) -> StudyPlan:
    """The plan of a grid, whose first arm is the baseline."""
    arms = [tuple(zip(axes, values, strict=True)) for values in product(*axes.values())]
    named = {" ".join(f"{knob}={value}" for knob, value in arm): arm for arm in arms}
    return replace(PLAN, axes=axes, arm_values=named, baseline=next(iter(named)), **knobs)  # type: ignore[arg-type]


def make_runs(plan: StudyPlan, means: dict[str, float], noise: np.ndarray) -> list[Run]:
    """Runs of each arm: its mean, what a seed gives all arms, and noise of its own (arms x seeds)."""
    return [
        Run(arm, seed, "finished", {"val/loss": 2.0 + means.get(arm, 0.0) + 0.05 * seed + noise[row, seed]})
        for row, arm in enumerate(plan.arm_values)
        for seed in range(noise.shape[1])
    ]


def find_interactions(plan: StudyPlan, runs: list[Run]) -> list[Interaction]:
    return compare_study(plan, runs).strata[0].interactions


def draw_noise(arms: int, seeds: int, sd: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, sd, (arms, seeds))


def test_it_is_the_difference_of_differences_with_its_own_interval():
    plan, noise = make_plan(AXES, variance="own"), draw_noise(4, 4, 0.01, 1)
    runs = make_runs(plan, {"norm=layernorm mlp=swiglu": 0.02, "norm=rmsnorm mlp=gelu": -0.01, BOTH: 0.05}, noise)
    (found,) = find_interactions(plan, runs)
    y = {run.arm: [] for run in runs}
    for run in runs:
        y[run.arm].append(run.values["val/loss"])
    base, gelu, layernorm, both = map(np.array, y.values())
    differences = both - gelu - layernorm + base
    half = stats.t.ppf(0.975, 3) * differences.std(ddof=1) / 2
    assert found.interaction == pytest.approx(differences.mean())
    assert (found.low, found.high) == pytest.approx((differences.mean() - half, differences.mean() + half))
    assert found.p == pytest.approx(stats.ttest_1samp(differences, 0)[1])
    assert found.first_alone == pytest.approx((layernorm - base).mean())
    assert found.together == pytest.approx((both - base).mean())
    assert (found.first, found.second, found.contexts) == ("norm=layernorm", "mlp=gelu", 1)


def test_the_pooled_noise_is_that_of_four_runs():
    plan, noise = make_plan(AXES), draw_noise(4, 5, 0.01, 2)
    (found,) = find_interactions(plan, make_runs(plan, {}, noise))
    # the residual of arm + seed, by hand
    residual = noise - noise.mean(0) - noise.mean(1, keepdims=True) + noise.mean()
    assert found.variance == "pooled"
    assert found.df == 3 * 4
    assert found.sd == pytest.approx(2 * np.sqrt((residual**2).sum() / 12))


def test_a_program_is_told_the_interactions_of_a_grid():
    plan = make_plan(AXES)
    findings = compare_study(plan, make_runs(plan, {BOTH: 0.1}, draw_noise(4, 5, 0.0005, 3)))
    (answered,) = answer_with_findings(findings)["interactions"]
    assert (answered["first"], answered["second"], answered["verdict"]) == (
        *("norm=layernorm", "mlp=gelu"),
        "antagonistic",
    )


@pytest.mark.parametrize(
    ("together", "verdict"), [(-0.1, "synergistic"), (0.1, "antagonistic"), (0.0, "additive"), (0.02, "not resolved")]
)
def test_planted_interactions_come_back(together: float, verdict: str):
    sd = 0.02 if verdict == "not resolved" else 0.0005
    plan = make_plan(AXES, delta=0.005)
    (found,) = find_interactions(plan, make_runs(plan, {BOTH: together}, draw_noise(4, 3, sd, 3)))
    assert found.verdict == verdict


def test_higher_is_better_turns_the_words():
    plan = make_plan(AXES, decides="val/answer_accuracy", delta=0.005)
    runs = [
        replace(run, values={"val/answer_accuracy": run.values["val/loss"] / 4, "val/loss": 1.0 + run.seed / 10})
        for run in make_runs(plan, {BOTH: 0.2}, draw_noise(4, 3, 0.001, 4))
    ]
    (found,) = find_interactions(plan, runs)
    assert (found.verdict, found.interaction > 0) == ("synergistic", True)


def test_three_axes_are_averaged_over_the_third():
    plan = make_plan({**AXES, "position": ["rope", "alibi"]})
    noise = np.zeros((8, 3))
    # norm and mlp interact by 0.1 under rope and by 0.3 under alibi
    means = {f"{BOTH} position=rope": 0.1, f"{BOTH} position=alibi": 0.3}
    found = {(one.first, one.second): one for one in find_interactions(plan, make_runs(plan, means, noise))}
    assert len(found) == 3
    assert found["norm=layernorm", "mlp=gelu"].interaction == pytest.approx(0.2)
    assert found["norm=layernorm", "mlp=gelu"].contexts == 2


def test_holm_is_over_all_interactions():
    plan = make_plan({"norm": ["rmsnorm", "layernorm", "dyt"], "mlp": ["swiglu", "gelu", "relu"]})
    found = find_interactions(plan, make_runs(plan, {}, draw_noise(9, 4, 0.01, 5)))
    assert len(found) == 4
    smallest = min(found, key=lambda one: one.p)
    assert smallest.p_holm == pytest.approx(min(1, 4 * smallest.p))


@pytest.mark.parametrize("studies", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_chance_makes_no_more_interactions_than_alpha(studies: int):
    plan = make_plan({"norm": ["rmsnorm", "layernorm", "dyt"], "mlp": ["swiglu", "gelu"]}, delta=1e-9)
    wrong = 0
    for study in range(studies):
        found = find_interactions(plan, make_runs(plan, {}, draw_noise(6, 3, 0.01, 1000 + study)))
        wrong += any(one.verdict != "not resolved" for one in found)
    # 5 % by two comparisons, give or take three standard errors
    assert wrong / studies < 0.05 + 3 * np.sqrt(0.05 * 0.95 / studies)
    assert wrong


def test_what_was_not_crossed_has_none():
    noise = draw_noise(4, 3, 0.01, 6)
    plan = make_plan(AXES)
    runs = make_runs(plan, {}, noise)
    assert find_interactions(plan, [run for run in runs if run.arm != BOTH]) == []  # a star
    assert find_interactions(plan, [run for run in runs if run.seed == 0]) == []  # one seed
    diverged = [replace(run, status="diverged") if (run.arm, run.seed) == (BOTH, 0) else run for run in runs]
    assert find_interactions(plan, diverged) == []


def test_the_report_has_a_section_that_says_how_many_there_are():
    plan = make_plan(AXES, delta=0.005)
    findings = compare_study(plan, make_runs(plan, {BOTH: -0.1}, draw_noise(4, 3, 0.001, 7)))
    report = build_study_report(findings)
    page, text = render_page(report), render_markdown(report)
    assert "<h2" in page
    assert "Interactions</h2>" in page
    assert "## Interactions" in text
    assert "Holm's correction is over 1 interaction" in text
    assert "**synergistic**" in text
    one_axis = make_plan({"norm": ["rmsnorm", "layernorm"]})
    findings = compare_study(one_axis, make_runs(one_axis, {}, draw_noise(2, 3, 0.01, 8)))
    assert "Interactions" not in render_markdown(build_study_report(findings))
