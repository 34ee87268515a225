"""Comparison of all arms in one metric: contrasts with the baseline, the noise floor, notes on the seeds."""

import math
import statistics as plain
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from gptlab.stats import paired_tests as statistics
from gptlab.stats.contrasts import DecisionRule, compare_counts, compare_pairs, contrast_without_interval
from gptlab.stats.downstream.tasks import measure_task_signal
from gptlab.stats.moderation import Pair, Variance, choose_variances, describe_disagreements, select_shared
from gptlab.stats.paired_tests import Table, VarianceEstimate
from gptlab.stats.results import ACCURACY, METRICS, Arm, Comparison, Contrast, Metric, Noise, Run
from gptlab.stats.spending import Look, LookPlan
from gptlab.stats.study_plan import StudyPlan

DEFAULT_MARGIN_SHARE = 0.005
"""Share of the baseline's mean that is the margin of equivalence where no better one is known."""
ACCURACY_MARGIN = 0.01
"""Margin of equivalence of the accuracy in a synthetic task, and in minimal pairs."""


def tabulate(runs: Iterable[Run], key: str) -> dict[str, dict[int, float]]:
    """Return the finite values of finished runs, by arm and seed, both in order."""
    table: dict[str, dict[int, float]] = {}
    for run in sorted(runs, key=lambda run: (run.arm, run.seed)):
        value = run.values.get(key, math.nan)
        if run.status == "finished" and math.isfinite(value):
            table.setdefault(run.arm, {})[run.seed] = value
    return table


def compare_metric(
    metric: Metric,
    runs: list[Run],
    baseline: str,
    plan: StudyPlan,
    *,
    margin: tuple[float, str] | None = None,
    control: Iterable[Run] = (),
    minutes: float = 0.0,
    others: int = 0,
) -> Comparison:
    """Compare all arms with the baseline in one metric.

    margin   delta and where it comes from; None takes half a percent of the baseline's mean
    control  runs of the baseline under a second name (A/A)
    minutes  how long one more seed of all arms takes
    others   comparisons in other tasks, over which p-values are corrected too
    """
    values, twins = tabulate(runs, metric.key), tabulate(control, metric.key)
    arms = [_summarize_arm(name, runs, values) for name in sorted({run.arm for run in runs})]
    delta, source = margin or _default_margin(metric, values.get(baseline, {}))
    unstable = frozenset(arm.arm for arm in arms if arm.diverged)
    pairs = [(arm, baseline) for arm in values if arm != baseline] if baseline in values else []
    if not metric.seeded:  # parameters, FLOPs and bytes are the same at every seed: compared without a test
        counts = [compare_counts(metric, values, pair) for pair in pairs]
        return Comparison(metric, baseline, arms, counts, [], "none", delta, source, None)
    doubles = find_doubles(metric, runs, baseline, plan.looked)
    every, left_out = values, {} if {*values} <= {baseline, *doubles} else doubles
    values = {arm: by_seed for arm, by_seed in values.items() if arm not in left_out}
    pairs = [pair for pair in pairs if pair[0] not in left_out]
    # a baseline that diverged is said in a note; else every arm of the study would be unstable with it
    rule = DecisionRule(metric, delta, plan.alpha, unstable - {baseline}, minutes, make_look_plan(plan))
    kind = _choose_kind(plan, pairs)
    used = choose_variances(values, pairs, kind, unstable)
    contrasts = compare_over_looks(rule, values, pairs, kind, unstable, others)
    return Comparison(
        metric=metric,
        baseline=baseline,
        arms=arms,
        contrasts=_add_doubles(contrasts, left_out, every, baseline),
        pairs=compare_over_looks(rule, values, _list_pairs(plan, values), kind, unstable),
        variance=kind if used else "none",
        delta=delta,
        delta_from=source,
        noise=_estimate_noise(rule, values, used, _control_difference(values.get(baseline, {}), twins), others),
        notes=[*_describe_seeds(arms, values, baseline, metric, plan.looked), *_describe_doubles(doubles, every)],
        noisy=describe_disagreements(select_shared(values, pairs, unstable) if kind == "moderated" else {}, baseline),
        look=describe_look(rule, contrasts),
        signal=measure_task_signal(metric, values, runs),
    )


def find_doubles(metric: Metric, runs: Iterable[Run], baseline: str, looked: Collection[int]) -> dict[str, str]:
    """Return, for each arm whose losses are those of another one to the bit, that one: one arm with two names.

    From two seeds on; the baseline comes first. An arm that stopped at a look is compared by the seeds that it has.
    Metrics of the validation split alone ask: two arms may well take the same memory.
    """
    losses = tabulate(runs, METRICS[0].key) if metric.key.startswith("val/") else {}
    firsts: dict[str, Mapping[int, float]] = {}
    doubles = {}
    for arm in sorted(losses, key=lambda arm: (arm != baseline, arm)):
        row = losses[arm]
        first = next((name for name, other in firsts.items() if _are_equal(row, other, looked)), None)
        if first is None:
            firsts[arm] = row
        else:
            doubles[arm] = first
    return doubles


def _are_equal(row: Mapping[int, float], other: Mapping[int, float], looked: Collection[int]) -> bool:
    both = sorted({*row} & {*other})
    has_all = {*row} == {*other} or len(row) in looked
    return len(both) > 1 and has_all and all(row[seed] == other[seed] for seed in both)


def _add_doubles(contrasts: list[Contrast], doubles: dict[str, str], values: Table, baseline: str) -> list[Contrast]:
    """Return the contrasts with those of second names, which are the first one's and were not counted."""
    by_arm = {contrast.arm: contrast for contrast in contrasts}
    added = []
    for arm, first in doubles.items():
        if first in by_arm:
            added.append(replace(by_arm[first], arm=arm))
        elif first == baseline:
            seeds = tuple(sorted(set(values.get(arm, {})) & set(values.get(baseline, {}))))
            if seeds:
                mean = plain.fmean(values[baseline][seed] for seed in seeds)
                added.append(contrast_without_interval(arm, baseline, seeds, mean, mean, "equivalent"))
    return sorted([*contrasts, *added], key=lambda contrast: (contrast.arm, contrast.against))


def _describe_doubles(doubles: dict[str, str], values: Table) -> list[str]:
    return [
        f"{arm} and {first} are one arm with two names: equal losses in all {len(values.get(arm, ()))} seeds, "
        "counted as one"
        for arm, first in doubles.items()
    ]


def _choose_kind(plan: StudyPlan, pairs: list[Pair]) -> Variance:
    if plan.variance != "auto":
        return plan.variance
    # of two arms pooled and own are one; from three on the others tell whether one is noisy
    return "pooled" if len(pairs) < 2 else "moderated"


def _list_pairs(plan: StudyPlan, values: Table) -> list[Pair]:
    """Return the pairs that are compared beside those with the baseline."""
    if plan.pairs:
        return [(first, other) for at, first in enumerate(values) for other in [*values][at + 1 :]]
    return [(first, other) for first, other in plan.versus if {first, other} <= values.keys()]


def _summarize_arm(name: str, runs: list[Run], values: Table) -> Arm:
    numbers, states = [*values.get(name, {}).values()], [run.status for run in runs if run.arm == name]
    diverged, failed = states.count("diverged"), states.count("failed")
    mean = plain.fmean(numbers) if numbers else None
    return Arm(name, len(numbers), diverged, failed, mean, plain.stdev(numbers) if len(numbers) > 1 else None)


def _default_margin(metric: Metric, base: Mapping[int, float]) -> tuple[float, str]:
    if metric == ACCURACY:
        return ACCURACY_MARGIN, "one answer in a hundred"
    if metric.unit == "share of pairs":
        return ACCURACY_MARGIN, "one pair in a hundred"
    mean = plain.fmean(base.values()) if base else 0.0
    return DEFAULT_MARGIN_SHARE * abs(mean), f"0.5 % of the baseline's {metric.name}"


def _estimate_noise(
    rule: DecisionRule,
    values: Table,
    variances: Mapping[Pair, VarianceEstimate],
    control_difference: float | None,
    others: int = 0,
) -> Noise | None:
    # pairs of one thing under two names have no variance, and would make the study seem sharper than it is
    stable = {
        pair: estimate for pair, estimate in variances.items() if estimate.variance and not {*pair} & rule.unstable
    } or variances
    seeds = [
        plain.variance(by_seed.values())
        for arm, by_seed in values.items()
        if len(by_seed) > 1 and arm not in rule.unstable
    ]
    if not stable or not seeds:
        return None
    seed, pair = plain.fmean(seeds), plain.fmean(estimate.variance for estimate in stable.values())
    typical = VarianceEstimate(pair, plain.fmean(estimate.df for estimate in stable.values()))
    counts = [len(statistics.paired_differences(values, *pair)) for pair in stable]
    # an arm that an earlier look has ended says nothing of what the last one can see
    n = min(counts) if rule.plan is None else max(counts)
    comparisons = len(variances) + others
    level = rule.find_level(n, comparisons) / comparisons
    detectable = statistics.minimum_detectable_effect(typical, n, level)
    # two independent seeds would differ by 2 sigma^2
    gain = 2 * seed / pair if pair else 1.0
    return Noise(
        # var(a - b) = 2 sigma^2 (1 - rho), solved for rho
        math.sqrt(seed),
        math.sqrt(pair),
        max(-1.0, 1 - 1 / gain if seed else 1.0),
        gain,
        detectable,
        control_difference,
    )


def _control_difference(base: Mapping[int, float], control: Table) -> float | None:
    (second,) = control.values() or ({},)
    return max((abs(second[seed] - base[seed]) for seed in second if seed in base), default=None)


def _describe_seeds(arms: list[Arm], values: Table, baseline: str, metric: Metric, looked: list[int]) -> list[str]:
    notes = [
        f"{arm.arm} diverged in {arm.diverged} of {arm.diverged + arm.finished + arm.failed} seeds"
        for arm in arms
        if arm.diverged
    ]
    base = set(values.get(baseline, {}))
    if not base:
        return [*notes, f"the baseline {baseline} has no {metric.name}: nothing can be compared with it"]
    if any(arm.diverged for arm in arms if arm.arm == baseline):
        notes.append(f"the baseline {baseline} is unstable: every difference is from the seeds that it finished alone")
    for arm, by_seed in values.items():
        if len(by_seed) in looked and [*by_seed] == sorted(base)[: len(by_seed)] != sorted(base):
            notes.append(f"{arm} stopped at the look at {len(by_seed)} seeds, and is judged by these")
        elif {*by_seed} != base:
            notes.append(f"{arm} and {baseline} have {len(base & {*by_seed})} seeds in common: only these are compared")
    return notes


# -- looks


def make_look_plan(plan: StudyPlan) -> LookPlan | None:
    """Return the plan of a study's looks; None for one that has none, as from before there were looks."""
    if not plan.looks:
        return None
    return LookPlan(tuple(plan.looks), plan.spending, tuple(sorted({*plan.looked})))


def compare_over_looks(
    rule: DecisionRule, values: Table, pairs: list[Pair], kind: Variance, unstable: frozenset[str], others: int = 0
) -> list[Contrast]:
    """Return the contrasts of `pairs`, look by look; `others` are comparisons beside them in Holm's correction.

    At each look Holm's correction is over the arms that were still open, and over those that stopped without a
    difference; what is known to be better or worse needs no more alpha.
    """
    contrasts, remaining, stopped = [], [*pairs], others
    seeds = {pair: tuple(statistics.paired_differences(values, *pair)) for pair in pairs}
    for look in _list_looks(rule.plan, {*seeds.values()}):
        # as it was seen then: seeds that came later must not change what an arm stopped for
        seen = values if look is None else _select_seeds(values, look)
        compared = compare_pairs(rule, seen, choose_variances(seen, remaining, kind, unstable), remaining, stopped)
        ended = [contrast for contrast in compared if look in (None, seeds[contrast.arm, contrast.against])]
        contrasts += ended
        remaining = [pair for pair in remaining if seeds[pair] != look]
        # Holm: a rejected comparison leaves the family, one that stopped without a difference stays in it
        stopped += sum(contrast.verdict not in ("better", "worse") for contrast in ended)
    return sorted(contrasts, key=lambda contrast: (contrast.arm, contrast.against))


def _list_looks(plan: LookPlan | None, seeds: set[tuple[int, ...]]) -> list[tuple[int, ...] | None]:
    """Return the seeds of the looks at which some arm has stopped, ascending, and None for all seeds.

    seeds  those that each arm shares with the baseline
    """
    longest = max(seeds, key=len, default=())
    if plan is None:
        return [None]
    stopped = [some for some in seeds if len(some) in plan.looked and some == longest[: len(some)] != longest]
    return [*sorted(stopped, key=len), None]


def _select_seeds(values: Table, seeds: tuple[int, ...]) -> dict[str, dict[int, float]]:
    return {arm: {seed: value for seed, value in row.items() if seed in seeds} for arm, row in values.items()}


def describe_look(rule: DecisionRule, contrasts: list[Contrast]) -> Look | None:
    """Return where in its plan a comparison stands, by the arm with the most seeds; None before there are two."""
    seeds = max((len(contrast.seeds) for contrast in contrasts), default=0)
    if rule.plan is None or seeds < 2:
        return None
    look = rule.plan.describe(seeds, len(contrasts), rule.alpha)
    level = max((contrast.level for contrast in contrasts if len(contrast.seeds) == seeds), default=look.level)
    return replace(look, level=level)
