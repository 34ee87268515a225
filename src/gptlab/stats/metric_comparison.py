"""One metric over all arms: contrasts with the baseline, the noise floor, and what to know of the seeds."""

import math
import statistics as plain
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from gptlab.stats import paired_tests as statistics
from gptlab.stats.contrasts import Pair, Rule, contrasts, counted
from gptlab.stats.paired_tests import Spread, Table
from gptlab.stats.results import Arm, Comparison, Metric, Noise, Run

MANY = 5
"""Comparisons from which on the variance is moderated rather than pooled."""
SHARE = 0.005
"""Of the baseline's mean: the margin of equivalence where nothing better is known."""

Variance = Literal["pooled", "moderated", "own", "none"]


def table(runs: Iterable[Run], key: str) -> dict[str, dict[int, float]]:
    """The finite numbers of finished runs, by arm and seed, both in order."""
    found: dict[str, dict[int, float]] = {}
    for run in sorted(runs, key=lambda run: (run.arm, run.seed)):
        value = run.values.get(key, math.nan)
        if run.status == "finished" and math.isfinite(value):
            found.setdefault(run.arm, {})[run.seed] = value
    return found


def judge(
    metric: Metric,
    runs: list[Run],
    baseline: str,
    asked: Mapping[str, Any],
    margin: tuple[float, str] | None = None,
    twins: Iterable[Run] = (),
) -> Comparison:
    """All arms in one metric. `margin`: delta and whence, if that is known; `twins`: the baseline once more."""
    values = table(runs, metric.key)
    arms = [_arm(name, [run for run in runs if run.arm == name], values) for name in sorted({run.arm for run in runs})]
    delta, source = margin or _margin(metric, values.get(baseline, {}))
    unstable = frozenset(arm.arm for arm in arms if arm.diverged)
    pairs = [(arm, baseline) for arm in values if arm != baseline] if baseline in values else []
    if not metric.seeded:
        plainly = [counted(metric, values, pair) for pair in pairs]
        return Comparison(metric, baseline, arms, plainly, [], "none", delta, source, None)
    minutes = sum(asked.get("minutes_per_cell", {}).values())
    rule = Rule(metric, delta, asked.get("alpha", 0.05), unstable - {baseline}, minutes)
    wanted = asked.get("variance", "auto")
    kind: Variance = wanted if wanted != "auto" else "pooled" if len(pairs) < MANY else "moderated"
    spreads = variances(values, pairs, kind, unstable)
    every = [(one, other) for one, other in asked.get("versus", ()) if {one, other} <= values.keys()]
    if asked.get("pairs"):
        every = [(one, other) for at, one in enumerate(values) for other in [*values][at + 1 :]]
    return Comparison(
        metric,
        baseline,
        arms,
        contrasts(rule, values, spreads, pairs),
        contrasts(rule, values, variances(values, every, kind, unstable), every),
        kind if spreads else "none",
        delta,
        source,
        _noise(rule, values, spreads, _twin(values.get(baseline, {}), table(twins, metric.key))),
        _notes(arms, values, baseline, metric),
    )


def _arm(name: str, runs: list[Run], values: Table) -> Arm:
    numbers = [*values.get(name, {}).values()]
    diverged, failed = (sum(run.status == status for run in runs) for status in ("diverged", "failed"))
    mean = plain.fmean(numbers) if numbers else None
    return Arm(name, len(numbers), diverged, failed, mean, plain.stdev(numbers) if len(numbers) > 1 else None)


def _margin(metric: Metric, base: Mapping[int, float]) -> tuple[float, str]:
    mean = plain.fmean(base.values()) if base else 0.0
    return SHARE * abs(mean), f"0.5 % of the baseline's {metric.name}"


def variances(values: Table, pairs: list[Pair], kind: Variance, unstable: frozenset[str]) -> dict[Pair, Spread]:
    """The variance that each comparison uses. Arms that diverged in some seed have their own: what is left of them says
    nothing of the others. So have arms that never differ, being the same thing under two names."""
    found = {pair: statistics.own(statistics.differences(values, *pair)) for pair in pairs}
    own = {pair: spread for pair, spread in found.items() if spread is not None}
    same = {pair for pair in own if not any(statistics.differences(values, *pair).values())}
    calm = {pair: spread for pair, spread in own.items() if not {*pair} & unstable and pair not in same}
    if kind == "moderated":
        return {**own, **statistics.moderated(calm)}
    if kind == "pooled":
        left_out = unstable | {arm for arm, _ in same}
        whole = statistics.pooled({arm: one for arm, one in values.items() if arm not in left_out})
        return {**own, **({} if whole is None else dict.fromkeys(calm, whole))}
    return own


def _noise(rule: Rule, values: Table, spreads: Mapping[Pair, Spread], twin: float | None) -> Noise | None:
    calm = {pair: one for pair, one in spreads.items() if one.variance and not {*pair} & rule.unstable} or spreads
    seeds = [plain.variance(one.values()) for arm, one in values.items() if len(one) > 1 and arm not in rule.unstable]
    if not calm or not seeds:
        return None
    seed, pair = plain.fmean(seeds), plain.fmean(one.variance for one in calm.values())
    typical = Spread(pair, plain.fmean(one.df for one in calm.values()))
    n = min(len(statistics.differences(values, *pair)) for pair in calm)
    least = statistics.smallest(typical, n, rule.alpha / len(spreads))
    gain = 2 * seed / pair if pair else 1.0
    return Noise(math.sqrt(seed), math.sqrt(pair), max(-1.0, 1 - 1 / gain if seed else 1.0), gain, least, twin)


def _twin(base: Mapping[int, float], again: Table) -> float | None:
    (second,) = again.values() or ({},)
    return max((abs(second[seed] - base[seed]) for seed in second if seed in base), default=None)


def _notes(arms: list[Arm], values: Table, baseline: str, metric: Metric) -> list[str]:
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
        f"{arm} and {baseline} have {len(base & set(one))} seeds in common: only these are compared"
        for arm, one in values.items()
        if set(one) != base
    ]
