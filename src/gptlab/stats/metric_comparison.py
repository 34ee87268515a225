"""Comparison of all arms in one metric: contrasts with the baseline, the noise floor, notes on the seeds."""

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import replace

from gptlab.stats import paired_tests
from gptlab.stats.comparability import add_doubles, describe_doubles, find_doubles
from gptlab.stats.contrasts import DecisionRule, compare_counts, compare_pairs
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
    values = tabulate(runs, metric.key)
    names = sorted({run.arm for run in runs})
    arms = [_summarize_arm(name, runs, values) for name in names]
    delta, source = margin or _default_margin(metric, values.get(baseline, {}))
    compared = Comparison(
        metric=metric,
        baseline=baseline,
        arms=arms,
        contrasts=[],
        pairs=[],
        variance="none",
        delta=delta,
        delta_from=source,
        noise=None,
    )
    if not metric.seeded:  # parameters, FLOPs and bytes are the same at every seed: compared without a test
        pairs = _list_pairs_with(baseline, values)
        return replace(compared, contrasts=[compare_counts(metric, values, pair) for pair in pairs])
    twins = tabulate(control, metric.key)
    return _compare_over_seeds(compared, runs, plan, values=values, twins=twins, minutes=minutes, others=others)


def _compare_over_seeds(
    compared: Comparison,
    runs: list[Run],
    plan: StudyPlan,
    *,
    values: Table,
    twins: Table,
    minutes: float,
    others: int,
) -> Comparison:
    """Return a comparison with its contrasts, and what the seeds say of the noise."""
    metric, baseline, arms = compared.metric, compared.baseline, compared.arms
    # the validation split alone tells who is one arm: two arms may well take the same memory
    losses = tabulate(runs, METRICS[0].key) if metric.key.startswith("val/") else {}
    doubles = find_doubles(losses, baseline, plan.looked)
    # a second name counts once, unless no arm would be left beside the baseline
    every, left_out = values, {} if {*values} <= {baseline, *doubles} else doubles
    values = {arm: by_seed for arm, by_seed in values.items() if arm not in left_out}
    pairs = _list_pairs_with(baseline, values)
    unstable = frozenset(arm.arm for arm in arms if arm.diverged)
    # a baseline that diverged is said in a note; else every arm of the study would be unstable with it
    judged_alone = unstable - {baseline}
    looks = make_look_plan(plan)
    rule = DecisionRule(metric, compared.delta, plan.alpha, judged_alone, minutes=minutes, plan=looks)
    kind = _choose_kind(plan, pairs)
    used = choose_variances(values, pairs, kind, unstable)
    contrasts = compare_over_looks(rule, values, pairs, kind=kind, unstable=unstable, others=others)
    control_difference = _control_difference(values.get(baseline, {}), twins)
    notes = _describe_seeds(arms, values, plan.looked, baseline=baseline, metric=metric)
    return replace(
        compared,
        contrasts=add_doubles(contrasts, left_out, every, baseline),
        pairs=compare_over_looks(rule, values, _list_pairs(plan, values), kind=kind, unstable=unstable),
        variance=kind if used else "none",
        noise=_estimate_noise(rule, values, used, control_difference=control_difference, others=others),
        notes=[*notes, *describe_doubles(doubles, every)],
        noisy=describe_disagreements(select_shared(values, pairs, unstable) if kind == "moderated" else {}, baseline),
        look=describe_look(rule, contrasts),
        signal=measure_task_signal(metric, values, runs),
    )


def _choose_kind(plan: StudyPlan, pairs: list[Pair]) -> Variance:
    if plan.variance != "auto":
        return plan.variance
    # of two arms pooled and own are one; from three on the others tell whether one is noisy
    return "pooled" if len(pairs) < 2 else "moderated"


def _list_pairs_with(baseline: str, values: Table) -> list[Pair]:
    return [(arm, baseline) for arm in values if arm != baseline] if baseline in values else []


def _list_pairs(plan: StudyPlan, values: Table) -> list[Pair]:
    """Return the pairs that are compared beside those with the baseline."""
    if plan.pairs:
        return [(first, other) for at, first in enumerate(values) for other in [*values][at + 1 :]]
    return [(first, other) for first, other in plan.versus if {first, other} <= values.keys()]


def _summarize_arm(name: str, runs: list[Run], values: Table) -> Arm:
    numbers = [*values.get(name, {}).values()]
    states = [run.status for run in runs if run.arm == name]
    return Arm(
        arm=name,
        finished=len(numbers),
        diverged=states.count("diverged"),
        failed=states.count("failed"),
        mean=statistics.fmean(numbers) if numbers else None,
        sd=statistics.stdev(numbers) if len(numbers) > 1 else None,
    )


def _default_margin(metric: Metric, base: Mapping[int, float]) -> tuple[float, str]:
    if metric == ACCURACY:
        return ACCURACY_MARGIN, "one answer in a hundred"
    if metric.unit == "share of pairs":
        return ACCURACY_MARGIN, "one pair in a hundred"
    mean = statistics.fmean(base.values()) if base else 0.0
    return DEFAULT_MARGIN_SHARE * abs(mean), f"0.5 % of the baseline's {metric.name}"


def _estimate_noise(
    rule: DecisionRule,
    values: Table,
    variances: Mapping[Pair, VarianceEstimate],
    *,
    control_difference: float | None,
    others: int,
) -> Noise | None:
    """Return the noise floor of a comparison; None where no arm or no pair has two seeds."""
    # pairs of one thing under two names have no variance, and would make the study seem sharper than it is
    stable = {
        pair: estimate for pair, estimate in variances.items() if estimate.variance and not {*pair} & rule.unstable
    } or variances
    arm_variances = []
    for arm, by_seed in values.items():
        if len(by_seed) > 1 and arm not in rule.unstable:
            arm_variances.append(statistics.variance(by_seed.values()))
    if not stable or not arm_variances:
        return None
    seed_variance = statistics.fmean(arm_variances)
    pair_variance = statistics.fmean(estimate.variance for estimate in stable.values())
    typical = VarianceEstimate(pair_variance, statistics.fmean(estimate.df for estimate in stable.values()))
    counts = [len(paired_tests.paired_differences(values, *pair)) for pair in stable]
    # an arm that an earlier look has ended says nothing of what the last one can see
    n = min(counts) if rule.plan is None else max(counts)
    comparisons = len(variances) + others
    # Bonferroni: what the first of Holm's steps asks of the clearest difference
    level = rule.find_level(n, comparisons) / comparisons
    # two independent seeds would differ by 2 sigma^2
    gain = 2 * seed_variance / pair_variance if pair_variance else 1.0
    return Noise(
        seed_sd=math.sqrt(seed_variance),
        pair_sd=math.sqrt(pair_variance),
        # var(a - b) = 2 sigma^2 (1 - rho), solved for rho
        rho=max(-1.0, 1 - 1 / gain if seed_variance else 1.0),
        gain=gain,
        smallest=paired_tests.minimum_detectable_effect(typical, n, level),
        twin=control_difference,
    )


def _control_difference(base: Mapping[int, float], control: Table) -> float | None:
    (second,) = control.values() or ({},)
    return max((abs(second[seed] - base[seed]) for seed in second if seed in base), default=None)


def _describe_seeds(arms: list[Arm], values: Table, looked: list[int], *, baseline: str, metric: Metric) -> list[str]:
    """Return notes on arms that diverged, and on those that are compared by fewer seeds than the baseline has."""
    notes = []
    for arm in arms:
        if arm.diverged:
            seeds = arm.diverged + arm.finished + arm.failed
            notes.append(f"{arm.arm} diverged in {arm.diverged} of {seeds} seeds")
    base = sorted(values.get(baseline, {}))
    if not base:
        return [*notes, f"the baseline {baseline} has no {metric.name}: nothing can be compared with it"]
    if any(arm.diverged for arm in arms if arm.arm == baseline):
        notes.append(f"the baseline {baseline} is unstable: every difference is from the seeds that it finished alone")
    for name, by_seed in values.items():
        count, both = len(by_seed), {*base} & {*by_seed}
        # its seeds are the first ones of the baseline, as many as some look had
        if count in looked and [*by_seed] == base[:count] != base:
            notes.append(f"{name} stopped at the look at {count} seeds, and is judged by these")
        elif {*by_seed} != {*base}:
            notes.append(f"{name} and {baseline} have {len(both)} seeds in common: only these are compared")
    return notes


# -- looks


def make_look_plan(plan: StudyPlan) -> LookPlan | None:
    """Return the plan of a study's looks; None for one that has none, as from before there were looks."""
    if not plan.looks:
        return None
    return LookPlan(tuple(plan.looks), plan.spending, tuple(sorted({*plan.looked})))


def compare_over_looks(
    rule: DecisionRule, values: Table, pairs: list[Pair], *, kind: Variance, unstable: frozenset[str], others: int = 0
) -> list[Contrast]:
    """Return the contrasts of `pairs`, look by look; `others` are comparisons beside them in Holm's correction.

    At each look Holm's correction is over the arms that were still open, and over those that stopped without a
    difference; what is known to be better or worse needs no more alpha.
    """
    contrasts, remaining, stopped = [], [*pairs], others
    seeds = {pair: tuple(paired_tests.paired_differences(values, *pair)) for pair in pairs}
    for look in _list_looks(rule.plan, {*seeds.values()}):
        # as it was seen then: seeds that came later must not change what an arm stopped for
        seen = values if look is None else _select_seeds(values, look)
        variances = choose_variances(seen, remaining, kind, unstable)
        compared = compare_pairs(rule, seen, variances, remaining, stopped=stopped)
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
    selected = {}
    for arm, row in values.items():
        selected[arm] = {seed: value for seed, value in row.items() if seed in seeds}
    return selected


def describe_look(rule: DecisionRule, contrasts: list[Contrast]) -> Look | None:
    """Return where in its plan a comparison stands, by the arm with the most seeds; None before there are two."""
    seeds = max((len(contrast.seeds) for contrast in contrasts), default=0)
    if rule.plan is None or seeds < 2:
        return None
    look = rule.plan.describe(seeds, len(contrasts), rule.alpha)
    level = max((contrast.level for contrast in contrasts if len(contrast.seeds) == seeds), default=look.level)
    return replace(look, level=level)
