"""Runs with planted losses, and what is concluded from them."""

from dataclasses import replace
from typing import Any

from gptlab.stats.results import Comparison, Findings, Run
from gptlab.stats.study_comparison import compare_study
from gptlab.stats.study_plan import StudyPlan

NOISE = {0: 0.003, 1: -0.004, 2: 0.001, 3: 0.002, 4: -0.001}
"""Of a seed, the same in all arms."""
OWN = [0.0004, -0.0006, 0.0002, 0.0005, -0.0003, 0.0001, -0.0002]
"""Of a cell."""
PLAN = StudyPlan(study="planted", baseline="base")
MINUTES = {"base": 0.5, "other": 0.5}


def runs(seeds: int = 3, **arms: float) -> list[Run]:
    """Arms by their difference from the baseline, in nats."""
    return [
        Run(
            arm,
            seed,
            "finished",
            {"val/loss": 2.0 + off + NOISE[seed] + OWN[(3 * place + 2 * seed) % 7], "params": 100 + place},
        )
        for place, (arm, off) in enumerate({"base": 0.0, **arms}.items())
        for seed in range(seeds)
    ]


def judged(found: list[Run], **knobs: Any) -> Findings:
    return compare_study(replace(PLAN, **knobs), found, minutes_per_cell=MINUTES)


def loss(found: Findings) -> Comparison:
    return found.strata[0].comparisons[0]
