"""Interactions of two axes: differences of differences over the seeds that all four arms finished.

    interaction[a, b] = y[a, b] - y[a, b0] - y[a0, b] + y[a0, b0]        a0, b0: the values of the baseline

With more than two axes it is the mean over all values of the others for which the four arms are there. What seeds share
cancels, as in a difference; the noise of four runs is left, so that an interval is sqrt(2) times as wide as that of a
difference of the same seeds. Holm's correction is over all interactions of a size: a family of its own, whose error
stands beside that of the arms.
"""

import math
import statistics as plain
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations, product

from gptlab.stats import paired_tests as statistics
from gptlab.stats.contrasts import DecisionRule
from gptlab.stats.interactions.findings import Interaction, InteractionVerdict
from gptlab.stats.labels import label_value
from gptlab.stats.metric_comparison import make_look_plan, tabulate
from gptlab.stats.paired_tests import Table, VarianceEstimate
from gptlab.stats.results import Comparison, Run
from gptlab.stats.study_plan import StudyPlan

Levels = tuple[str, ...]
"""A value for each axis."""
Square = tuple[str, str, str, str]
"""Four arms: both changes, the first alone, the second alone, neither."""


@dataclass(frozen=True)
class _Pair:
    """Two changes, and the squares of arms that show them, one for each combination of the other axes' values."""

    first: str
    second: str
    squares: list[Square]


def compare_interactions(comparison: Comparison, runs: Iterable[Run], plan: StudyPlan) -> list[Interaction]:
    """Return the interactions of a grid in the metric that decides; none where no two axes were crossed."""
    values = tabulate(runs, comparison.metric.key)
    unstable = {arm.arm for arm in comparison.arms if arm.diverged}
    # an arm that diverged in a seed is known by its lucky seeds alone
    values = {arm: by_seed for arm, by_seed in values.items() if arm not in unstable}
    by_seed = {}
    for pair in _list_pairs([*values], comparison.baseline, plan):
        differences = _average_squares(values, pair.squares)
        if len(differences) > 1:
            by_seed[pair.first, pair.second] = (pair, differences)
    if not by_seed:
        return []
    rule = DecisionRule(comparison.metric, comparison.delta, plan.alpha, frozenset(), plan=make_look_plan(plan))
    is_pooled = plan.variance != "own" and not comparison.noisy
    pooled = statistics.pooled_variance(values) if is_pooled else None
    variances = {
        # twice the variance of a difference, over so many squares that do not share an arm
        name: VarianceEstimate(2 * pooled.variance / len(pair.squares), pooled.df)
        if pooled
        else _estimate_own_variance(differences)
        for name, (pair, differences) in by_seed.items()
    }
    p = {
        name: statistics.p_value(plain.fmean(differences.values()), variances[name], len(differences))
        for name, (_, differences) in by_seed.items()
    }
    adjusted, interactions = statistics.holm_adjust(p), []
    for name, (pair, differences) in by_seed.items():
        judged = _judge(rule, pair, values, differences, variances[name], (p[name], adjusted[name]), len(p))
        interactions.append(replace(judged, variance="pooled" if pooled else "own"))
    return interactions


def _list_pairs(arms: list[str], baseline: str, plan: StudyPlan) -> list[_Pair]:
    """Return every two changes of different axes that some square of arms shows."""
    named = {arm: {knob: value for knob, value in plan.get_values(arm) if knob} for arm in arms}
    if baseline not in named:
        return []
    axes = [*dict.fromkeys(axis for values in named.values() for axis in values)]
    # a design about a centre names only what an arm changes: "" is the centre's own value
    reference = tuple(named[baseline].get(axis, "") for axis in axes)
    cells: dict[Levels, str] = {}
    for arm, values in named.items():
        cells.setdefault(tuple(values.get(axis, at) for axis, at in zip(axes, reference, strict=True)), arm)
    pairs = []
    for one, other in combinations(range(len(axes)), 2):
        changes = [
            list(dict.fromkeys(cell[axis] for cell in cells if cell[axis] != reference[axis])) for axis in (one, other)
        ]
        for first, second in product(*changes):
            if squares := _find_squares(cells, reference, (one, first), (other, second)):
                names = [label_value(axes[axis], value) for axis, value in ((one, first), (other, second))]
                pairs.append(_Pair(names[0], names[1], squares))
    return pairs


def _list_changes(cells: Iterable[Levels], reference: Levels, axis: int) -> list[str]:
    """Return the values of an axis other than that of the baseline."""
    return [value for value in dict.fromkeys(cell[axis] for cell in cells) if value != reference[axis]]


def _find_squares(
    cells: Mapping[Levels, str], reference: Levels, first: tuple[int, str], second: tuple[int, str]
) -> list[Square]:
    """Return the squares of two changes, one for each combination of the other values that has all four arms."""
    squares = []
    for cell in cells:
        if (cell[first[0]], cell[second[0]]) != (first[1], second[1]):
            continue
        without_second = _replace(cell, second[0], reference[second[0]])
        without_first = _replace(cell, first[0], reference[first[0]])
        corners = (cell, without_second, without_first, _replace(without_first, second[0], reference[second[0]]))
        if all(corner in cells for corner in corners):
            squares.append(tuple(cells[corner] for corner in corners))
    return squares


def _replace(cell: Levels, axis: int, value: str) -> Levels:
    return (*cell[:axis], value, *cell[axis + 1 :])


def _average_squares(values: Table, squares: list[Square]) -> dict[int, float]:
    """Return the interaction by seed, the mean over the squares, of the seeds that all their arms finished."""
    arms = {arm for square in squares for arm in square}
    seeds = sorted(set.intersection(*({*values[arm]} for arm in arms)))
    return {
        seed: plain.fmean(
            values[both][seed] - values[one][seed] - values[other][seed] + values[neither][seed]
            for both, one, other, neither in squares
        )
        for seed in seeds
    }


def _estimate_own_variance(differences: Mapping[int, float]) -> VarianceEstimate:
    own = statistics.own_variance(differences)
    assert own is not None  # two seeds at least, as the caller asks
    return own


def _judge(
    rule: DecisionRule,
    pair: _Pair,
    values: Table,
    differences: Mapping[int, float],
    variance: VarianceEstimate,
    p_values: tuple[float, float],
    comparisons: int,
) -> Interaction:
    """Return an interaction with its intervals and its verdict; `p_values`: alone, and corrected for all of them."""
    seeds, mean = tuple(differences), plain.fmean(differences.values())
    n = len(seeds)
    low, high = statistics.t_interval(mean, variance, n, 1 - rule.find_interval_level(n))
    low90, high90 = statistics.t_interval(mean, variance, n, 1 - 2 * rule.find_equivalence_level(n))
    level = rule.find_level(n, comparisons)
    alone = [
        plain.fmean(values[square[at]][seed] - values[square[3]][seed] for square in pair.squares for seed in seeds)
        for at in (1, 2, 0)
    ]
    verdict: InteractionVerdict = "not resolved"
    # before the test of difference, as for arms: certain and too small to matter
    if -rule.delta <= low90 and high90 <= rule.delta:
        verdict = "additive"
    elif p_values[1] < level:
        verdict = "synergistic" if (mean < 0) == (rule.metric.better == "lower") else "antagonistic"
    return Interaction(
        first=pair.first,
        second=pair.second,
        contexts=len(pair.squares),
        seeds=seeds,
        first_alone=alone[0],
        second_alone=alone[1],
        together=alone[2],
        interaction=mean,
        low=low,
        high=high,
        low90=low90,
        high90=high90,
        sd=math.sqrt(variance.variance),
        df=variance.df,
        variance="own",
        p=p_values[0],
        p_holm=p_values[1],
        level=level,
        verdict=verdict,
    )
