"""Comparison of all arms in one metric: contrasts with the baseline, the noise floor, notes on the seeds."""

import math
import statistics as plain
from collections.abc import Iterable, Mapping
from typing import Literal

from gptlab.stats import paired_tests as statistics
from gptlab.stats.contrasts import ALPHA, DecisionRule, Pair, compare_counts, compare_pairs
from gptlab.stats.moderation import describe_disagreements, moderate_variances
from gptlab.stats.paired_tests import Table, VarianceEstimate
from gptlab.stats.results import Arm, Comparison, Metric, Noise, Run
from gptlab.stats.study_plan import StudyPlan

DEFAULT_MARGIN_SHARE = 0.005
"""Share of the baseline's mean that is the margin of equivalence where no better one is known."""

Variance = Literal["pooled", "moderated", "own", "none"]


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
) -> Comparison:
    """Compare all arms with the baseline in one metric.

    margin   delta and where it comes from; None takes half a percent of the baseline's mean
    control  runs of the baseline under a second name (A/A)
    minutes  how long one more seed of all arms takes
    """
    values = tabulate(runs, metric.key)
    arms = [
        _summarize_arm(name, [run for run in runs if run.arm == name], values)
        for name in sorted({run.arm for run in runs})
    ]
    delta, source = margin or _default_margin(metric, values.get(baseline, {}))
    unstable = frozenset(arm.arm for arm in arms if arm.diverged)
    pairs = [(arm, baseline) for arm in values if arm != baseline] if baseline in values else []
    if not metric.seeded:
        counts = [compare_counts(metric, values, pair) for pair in pairs]
        return Comparison(metric, baseline, arms, counts, [], "none", delta, source, None)
    rule = DecisionRule(metric, delta, ALPHA, unstable - {baseline}, minutes)
    kind: Variance = plan.variance if plan.variance != "auto" else "pooled" if len(pairs) < 2 else "moderated"
    used = choose_variances(values, pairs, kind, unstable)
    shared = select_shared(values, pairs, unstable) if kind == "moderated" else {}
    all_pairs = [(first, other) for first, other in plan.versus if {first, other} <= values.keys()]
    if plan.pairs:
        all_pairs = [(first, other) for at, first in enumerate(values) for other in [*values][at + 1 :]]
    return Comparison(
        metric=metric,
        baseline=baseline,
        arms=arms,
        contrasts=compare_pairs(rule, values, used, pairs),
        pairs=compare_pairs(rule, values, choose_variances(values, all_pairs, kind, unstable), all_pairs),
        variance=kind if used else "none",
        delta=delta,
        delta_from=source,
        noise=_estimate_noise(
            rule, values, used, _control_difference(values.get(baseline, {}), tabulate(control, metric.key))
        ),
        notes=[*_describe_seeds(arms, values, baseline, metric), *describe_disagreements(shared, baseline)],
    )


def _summarize_arm(name: str, runs: list[Run], values: Table) -> Arm:
    numbers = [*values.get(name, {}).values()]
    diverged, failed = (sum(run.status == status for run in runs) for status in ("diverged", "failed"))
    mean = plain.fmean(numbers) if numbers else None
    return Arm(name, len(numbers), diverged, failed, mean, plain.stdev(numbers) if len(numbers) > 1 else None)


def _default_margin(metric: Metric, base: Mapping[int, float]) -> tuple[float, str]:
    mean = plain.fmean(base.values()) if base else 0.0
    return DEFAULT_MARGIN_SHARE * abs(mean), f"0.5 % of the baseline's {metric.name}"


def choose_variances(
    values: Table, pairs: list[Pair], kind: Variance, unstable: frozenset[str]
) -> dict[Pair, VarianceEstimate]:
    """Return the variance estimate that each comparison uses.

    Arms that diverged in some seed keep their own, since what is left of them says nothing of the others. So do arms
    that never differ, being the same thing under two names.
    """
    estimates = {pair: statistics.own_variance(statistics.paired_differences(values, *pair)) for pair in pairs}
    own = {pair: estimate for pair, estimate in estimates.items() if estimate is not None}
    shared = select_shared(values, pairs, unstable)
    stable = {pair: estimate for pair, estimate in own.items() if {*pair} <= shared.keys()}
    if kind == "moderated":
        return {**own, **moderate_variances(stable, shared)}
    if kind == "pooled":
        pooled = statistics.pooled_variance(shared)
        return {**own, **({} if pooled is None else dict.fromkeys(stable, pooled))}
    return own


def select_shared(values: Table, pairs: list[Pair], unstable: frozenset[str]) -> dict[str, Mapping[int, float]]:
    """Return the values of the arms that say something of each other's noise."""
    differences = {pair: statistics.paired_differences(values, *pair) for pair in pairs}
    identical = {arm for (arm, _), by_seed in differences.items() if len(by_seed) > 1 and not any(by_seed.values())}
    return {arm: by_seed for arm, by_seed in values.items() if arm not in unstable | identical}


def _estimate_noise(
    rule: DecisionRule, values: Table, variances: Mapping[Pair, VarianceEstimate], control_difference: float | None
) -> Noise | None:
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
    n = min(len(statistics.paired_differences(values, *pair)) for pair in stable)
    detectable = statistics.minimum_detectable_effect(typical, n, rule.alpha / len(variances))
    gain = 2 * seed / pair if pair else 1.0
    return Noise(
        math.sqrt(seed), math.sqrt(pair), max(-1.0, 1 - 1 / gain if seed else 1.0), gain, detectable, control_difference
    )


def _control_difference(base: Mapping[int, float], control: Table) -> float | None:
    (second,) = control.values() or ({},)
    return max((abs(second[seed] - base[seed]) for seed in second if seed in base), default=None)


def _describe_seeds(arms: list[Arm], values: Table, baseline: str, metric: Metric) -> list[str]:
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
    return notes + [
        f"{arm} and {baseline} have {len(base & set(by_seed))} seeds in common: only these are compared"
        for arm, by_seed in values.items()
        if set(by_seed) != base
    ]
