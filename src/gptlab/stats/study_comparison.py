"""A study's runs to what they say: the one entry to the statistics."""

from collections.abc import Mapping
from typing import Any

from gptlab.stats import compute_value as exchange
from gptlab.stats import lr_tuning as tuning
from gptlab.stats import scaling
from gptlab.stats.metric_comparison import judge
from gptlab.stats.pareto import front
from gptlab.stats.results import METRICS, STEP, TEST, WRITE, Comparison, Findings, Metric, Run, Stratum
from gptlab.stats.timing import timing

Timed = Mapping[str, Mapping[str, list[float]]]
"""Metric, arm: a number a round."""


def findings(study: str, asked: dict[str, Any], runs: list[Run], timed: Timed | None = None) -> Findings:
    """All that can be said of some runs, size by size."""
    runs = sorted(runs, key=lambda run: (run.size, run.arm, run.seed, run.role, run.budget, run.lr or 0.0))
    sizes = list(dict.fromkeys(run.size for run in sorted(runs, key=_smaller(runs))))
    strata = [_stratum(size, asked, [run for run in runs if run.size == size], timed or {}) for size in sizes]
    scalings, notes = scaling.fits(strata)
    return Findings(study, asked, strata, scalings, runs, notes=notes)


def _smaller(runs: list[Run]) -> Any:
    """Sizes by their parameters."""
    params: dict[str, float] = {}
    for run in runs:
        params[run.size] = min(params.get(run.size, float("inf")), run.values.get("params", float("inf")))
    return lambda run: (params[run.size], run.size)


def _stratum(size: str, asked: dict[str, Any], runs: list[Run], timed: Timed) -> Stratum:
    start = f"{size}/" if size else ""
    minutes = {arm: one for arm, one in asked.get("minutes_per_cell", {}).items() if arm.startswith(start)}
    asked = {**asked, "minutes_per_cell": minutes}
    plain = [run for run in runs if run.role == "arm"]
    tunings, best = tuning.tuned(plain) if asked.get("tune") == "grid" else ([], plain)
    baseline = asked.get("baseline") or (plain[0].arm if plain else "")
    ladder = exchange.ladder(
        [run for run in runs if run.role == "budget"], [run for run in best if run.arm == baseline]
    )
    margin = exchange.margin(asked.get("delta"), ladder)
    twins = [run for run in runs if run.role == "twin"]
    decides = TEST if asked.get("design") == "search" else METRICS[0]
    loss = judge(decides, best, baseline, asked, margin, twins)
    others = [
        judge(metric, best, baseline, asked, None, twins)
        for metric in METRICS[1:]
        if any(metric.key in run.values for run in best)
    ]
    timings = [timing(metric, timed[metric.key], size, baseline) for metric in (STEP, WRITE) if timed.get(metric.key)]
    timings = [one for one in timings if one is not None]
    comparisons = [loss, *others]
    fronts = [front(loss, one) for one in others if one.metric.key in COSTS] + [front(loss, one) for one in timings]
    return Stratum(
        size,
        baseline,
        comparisons,
        timings,
        [one for one in fronts if one is not None],
        exchange.exchange(ladder, loss, timings),
        tunings,
        _confirmed(decides, [run for run in runs if run.role == "confirm"], baseline, asked, margin),
        runs,
    )


COSTS = ("memory/peak_bytes", "weight_bits", "cache_bytes_per_token", "params", "flops_per_token")


def _confirmed(
    decides: Metric, runs: list[Run], baseline: str, asked: dict[str, Any], margin: Any
) -> Comparison | None:
    """Fresh seeds, judged on these alone."""
    return judge(decides, runs, baseline, {**asked, "pairs": False, "versus": []}, margin) if runs else None
