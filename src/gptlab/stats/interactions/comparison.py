"""Interactions of two axes: differences of differences over the seeds that all four arms finished.

    interaction[a, b] = y[a, b] - y[a, b0] - y[a0, b] + y[a0, b0]        a0, b0: the values of the baseline

With more than two axes it is the mean over all values of the others for which the four arms are there. What seeds share
cancels, as in a difference; the noise of four runs is left, so that an interval is sqrt(2) times as wide as that of a
difference of the same seeds. Holm's correction is over all interactions of a size: a family of its own, whose error
stands beside that of the arms.
"""

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import NamedTuple

from gptlab.stats import paired_tests
from gptlab.stats.contrasts import DecisionRule
from gptlab.stats.interactions.findings import Interaction, InteractionVerdict
from gptlab.stats.labels import label_value
from gptlab.stats.metric_comparison import make_look_plan, tabulate
from gptlab.stats.paired_tests import Table, VarianceEstimate
from gptlab.stats.results import Comparison, Run
from gptlab.stats.study_plan import StudyPlan

Levels = tuple[str, ...]
"""A value for each axis."""


class Square(NamedTuple):
    """Four arms that show two changes: both of them, each alone, and neither."""

    both: str
    first: str
    second: str
    neither: str


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
    # a noisy arm would lend its noise to squares that it is not in
    is_pooled = plan.variance != "own" and not comparison.noisy
    pooled = paired_tests.pooled_variance(values) if is_pooled else None
    variances: dict[tuple[str, str], VarianceEstimate] = {}
    p: dict[tuple[str, str], float] = {}
    for name, (pair, differences) in by_seed.items():
        if pooled:
            # twice the variance of a difference, over so many squares that do not share an arm
            variances[name] = VarianceEstimate(2 * pooled.variance / len(pair.squares), pooled.df)
        else:
            variances[name] = _estimate_own_variance(differences)
        p[name] = paired_tests.p_value(statistics.fmean(differences.values()), variances[name], len(differences))
    adjusted, interactions = paired_tests.holm_adjust(p), []
    for name, (pair, differences) in by_seed.items():
        judged = _judge(
            rule=rule,
            pair=pair,
            values=values,
            differences=differences,
            variance=variances[name],
            p_values=(p[name], adjusted[name]),
            comparisons=len(p),
        )
        interactions.append(replace(judged, variance="pooled" if pooled else "own"))
    return interactions


def _list_pairs(arms: list[str], baseline: str, plan: StudyPlan) -> list[_Pair]:
    """Return every two changes of different axes that some square of arms shows."""
    named: dict[str, dict[str, str]] = {}  # values by axis, of each arm
    for arm in arms:
        named[arm] = {knob: value for knob, value in plan.get_values(arm) if knob}
    if baseline not in named:
        return []
    axes = [*dict.fromkeys(axis for values in named.values() for axis in values)]
    # a design about a centre names only what an arm changes: "" is the centre's own value
    reference = tuple(named[baseline].get(axis, "") for axis in axes)
    cells: dict[Levels, str] = {}
    for arm, values in named.items():
        levels = tuple(values.get(axis, at) for axis, at in zip(axes, reference, strict=True))
        # of two arms at one point the first: the other is the same decoder
        cells.setdefault(levels, arm)
    pairs = []
    for one, other in combinations(range(len(axes)), 2):
        for first, second in product(_list_changes(cells, reference, one), _list_changes(cells, reference, other)):
            if squares := _find_squares(cells, reference, (one, first), (other, second)):
                pairs.append(_Pair(label_value(axes[one], first), label_value(axes[other], second), squares))
    return pairs


def _list_changes(cells: Iterable[Levels], reference: Levels, axis: int) -> list[str]:
    """Return the values of an axis other than that of the baseline."""
    return list(dict.fromkeys(cell[axis] for cell in cells if cell[axis] != reference[axis]))


def _find_squares(
    cells: Mapping[Levels, str], reference: Levels, first: tuple[int, str], second: tuple[int, str]
) -> list[Square]:
    """Return the squares of two changes, one for each combination of the other values that has all four arms.

    first, second  an axis and the value to which it is changed
    """
    (axis1, value1), (axis2, value2) = first, second
    squares = []
    for both in cells:
        if (both[axis1], both[axis2]) != (value1, value2):
            continue
        first_alone = _replace(both, axis2, reference[axis2])
        second_alone = _replace(both, axis1, reference[axis1])
        neither = _replace(second_alone, axis2, reference[axis2])
        corners = (both, first_alone, second_alone, neither)
        if all(corner in cells for corner in corners):
            squares.append(Square(*(cells[corner] for corner in corners)))
    return squares


def _replace(cell: Levels, axis: int, value: str) -> Levels:
    return (*cell[:axis], value, *cell[axis + 1 :])


def _average_squares(values: Table, squares: list[Square]) -> dict[int, float]:
    """Return the interaction by seed, the mean over the squares, of the seeds that all their arms finished."""
    arms = {arm for square in squares for arm in square}
    means = {}
    for seed in sorted(set.intersection(*({*values[arm]} for arm in arms))):
        interactions = []
        for square in squares:
            both, first, second, neither = (values[arm][seed] for arm in square)
            # what both changes give beyond the sum of each alone
            interactions.append(both - first - second + neither)
        means[seed] = statistics.fmean(interactions)
    return means


def _average_effect(values: Table, arms: Iterable[str], without: Iterable[str], seeds: Iterable[int]) -> float:
    """Return the mean difference of `arms` from the arms `without` their change, pair by pair."""
    differences = []
    for arm, base in zip(arms, without, strict=True):
        differences += [values[arm][seed] - values[base][seed] for seed in seeds]
    return statistics.fmean(differences)


def _estimate_own_variance(differences: Mapping[int, float]) -> VarianceEstimate:
    own = paired_tests.own_variance(differences)
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
    seeds, mean = tuple(differences), statistics.fmean(differences.values())
    n = len(seeds)
    low, high = paired_tests.t_interval(mean, variance, n, 1 - rule.find_interval_level(n))
    low90, high90 = paired_tests.t_interval(mean, variance, n, 1 - 2 * rule.find_equivalence_level(n))
    level = rule.find_level(n, comparisons)
    both, first, second, neither = zip(*pair.squares, strict=True)  # of each kind the arms of all squares
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
        first_alone=_average_effect(values, first, neither, seeds),
        second_alone=_average_effect(values, second, neither, seeds),
        together=_average_effect(values, both, neither, seeds),
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
