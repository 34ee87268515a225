"""Comparison of all runs of a study: the one entry to the statistics."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gptlab.stats import compute_value, scaling
from gptlab.stats.comparability import BITS, choose_metric, choose_usual_metric, withhold_verdicts
from gptlab.stats.contrasts import redecide
from gptlab.stats.downstream.tasks import is_task_key, list_task_metrics
from gptlab.stats.interactions.comparison import compare_interactions
from gptlab.stats.ladder.comparison import compare_ladder
from gptlab.stats.lr_tuning import choose_learning_rates
from gptlab.stats.metric_comparison import compare_metric
from gptlab.stats.paired_tests import holm_adjust
from gptlab.stats.pareto import find_front
from gptlab.stats.results import METRICS, STEP, TEST, WRITE, Comparison, Findings, Metric, Run, Stratum
from gptlab.stats.study_plan import CONTROL_BUDGETS, StudyPlan
from gptlab.stats.timing import compare_times

RoundTimes = Mapping[str, Mapping[str, list[float]]]
"""Times by metric and arm, one value for each round."""


def compare_study(
    plan: StudyPlan,
    runs: list[Run],
    times: RoundTimes | None = None,
    minutes_per_cell: Mapping[str, float] | None = None,
) -> Findings:
    """Compare the runs of a study, size by size.

    minutes_per_cell  by size and arm, for how long more seeds would take
    """
    minutes = dict(minutes_per_cell or {})
    # sums over sorted runs: the order in which folders were listed must change no bit
    runs = sorted(runs, key=lambda run: (run.size, run.arm, run.seed, run.role, run.budget, run.lr or 0.0))
    # smallest first, as scaling reads
    sizes = list(dict.fromkeys(run.size for run in sorted(runs, key=_order_by_parameters(runs))))
    if plan.tasks:
        sizes = [task for task in plan.tasks if task in sizes]
    strata = _compare_sizes(plan, runs, sizes, times or {}, minutes=minutes)
    if plan.tasks:  # tasks are no sizes: nothing scales from one to the next
        scalings, notes = [], []
        strata = correct_over_tasks(strata)
    else:
        scalings, notes = scaling.fit_scaling(strata)
    if plan.asks_on_fresh_seeds:
        strata = [mark_exploratory(stratum) for stratum in strata]
    return Findings(
        plan=plan,
        strata=strata,
        scalings=scalings,
        runs=runs,
        notes=notes,
        minutes_per_cell=minutes,
        ladder=compare_ladder(plan, strata),
    )


def _compare_sizes(
    plan: StudyPlan, runs: list[Run], sizes: list[str], times: RoundTimes, *, minutes: Mapping[str, float]
) -> list[Stratum]:
    """Compare the runs size by size, or task by task; `minutes` of a cell by size and arm."""
    # of all sizes or tasks together; each has one baseline, which is compared with nothing
    comparisons = len({(run.size, run.arm) for run in runs if run.role == "arm"}) - len(sizes)
    strata: list[Stratum] = []
    # the rates that tune=transfer found at the smallest rung, which larger ones are judged at
    carried: dict[str, float | None] | None = None
    for size in sizes:
        prefix = f"{size}/" if size else ""
        runs_of_size = [run for run in runs if run.size == size]
        own = len({run.arm for run in runs_of_size if run.role == "arm"}) - 1
        stratum = _compare_size(
            size=size,
            plan=plan,
            runs=runs_of_size,
            times=times,
            minutes=sum(value for arm, value in minutes.items() if arm.startswith(prefix)),
            others=comparisons - own if plan.tasks else 0,
            carried=carried,
        )
        strata.append(stratum)
        if plan.tune == "transfer" and carried is None:
            carried = {tuning.arm: tuning.best for tuning in stratum.tunings}
    return strata


def _order_by_parameters(runs: list[Run]) -> Any:
    """Return a sort key that orders sizes by their parameters."""
    params: dict[str, float] = {}
    for run in runs:
        params[run.size] = min(params.get(run.size, float("inf")), run.values.get("params", float("inf")))
    return lambda run: (params[run.size], run.size)


def _compare_size(
    size: str,
    plan: StudyPlan,
    runs: list[Run],
    times: RoundTimes,
    minutes: float,
    others: int,
    carried: Mapping[str, float | None] | None,
) -> Stratum:
    """Compare the runs of one size.

    minutes  how long one seed of all its arms takes
    others   comparisons in other tasks
    carried  learning rates at which arms are judged, from a smaller size
    """
    every = [run for run in runs if run.role == "arm"]
    # from here on an arm is its runs at its best rate
    tunings, best = choose_learning_rates(every, carried) if plan.tune in ("grid", "transfer") else ([], every)
    baseline = plan.baseline or (every[0].arm if every else "")
    usual = choose_usual_metric(plan, best)
    decides, incomparable = choose_metric(best, usual)
    # the slope is in nats of the baseline's own tokens, and worth nothing in another unit
    in_nats = decides is usual and decides in (METRICS[0], TEST) and not incomparable
    fit = _fit_budgets(runs, best, baseline) if in_nats else None
    # a margin that moves after a verdict was seen would be chosen by it
    margin = compute_value.choose_margin(plan.delta, None if plan.budget_came_later else fit)
    control = [run for run in runs if run.role == "twin"]
    loss = compare_metric(decides, best, baseline, plan, margin=margin, control=control, minutes=minutes, others=others)
    measures = []
    for metric in _list_other_metrics(decides, usual, best, plan):
        # margins of compute are of the loss; other metrics have half a percent
        measures.append(compare_metric(metric, best, baseline, plan, control=control, minutes=minutes))
    if incomparable:
        loss, measures = withhold_verdicts(loss, incomparable), _withhold_validation(measures, incomparable)
    timed = (compare_times(metric, times.get(metric.key, {}), size, baseline) for metric in (STEP, WRITE))
    timings = [timing for timing in timed if timing is not None]
    costs = [measure for measure in measures if measure.metric.key in FRONT_COSTS]
    return Stratum(
        size=size,
        baseline=baseline,
        comparisons=[loss, *measures],
        timings=timings,
        fronts=[front for cost in (*costs, *timings) if (front := find_front(loss, cost)) is not None],
        exchange=compute_value.value_in_compute(fit, loss, timings),
        tunings=tunings,
        controls=_compare_controls(loss, runs, best, plan) if not incomparable else None,
        confirmed=_compare_fresh_seeds(decides, runs, baseline, plan, margin=margin, minutes=minutes),
        interactions=compare_interactions(loss, best, plan) if not incomparable else [],
        runs=runs,
    )


def _fit_budgets(runs: list[Run], best: list[Run], baseline: str) -> compute_value.BudgetFit | None:
    """Fit the baseline's loss over its budgets; those of the controls are too near to each other to say more."""
    budgets = [run for run in runs if run.role == "budget" and run.budget not in CONTROL_BUDGETS]
    return compute_value.fit_budget_slope(budgets, [run for run in best if run.arm == baseline])


SHUFFLED = "shuffled targets"
"""Name of the negative control."""
FRONT_COSTS = (
    "memory/peak_bytes",
    "weight_bits",
    "cache_bytes_per_token",
    "params",
    "params_active",
    "flops_per_token",
)


def mark_exploratory(stratum: Stratum) -> Stratum:
    """Return a stratum whose contrasts are not what the study asks: of runs that choose only, or another baseline."""
    forecasts = dict.fromkeys(("more_seeds", "more_minutes", "next_look", "chance", "chance_at_last"))
    comparisons = []
    for comparison in stratum.comparisons:
        contrasts = comparison.contrasts
        if comparison.metric.seeded:
            contrasts = [replace(contrast, exploratory=True, **forecasts) for contrast in contrasts]
        comparisons.append(replace(comparison, contrasts=contrasts))
    return replace(stratum, comparisons=comparisons)


def _withhold_validation(measures: list[Comparison], reason: str) -> list[Comparison]:
    """Return comparisons without verdicts on what was measured on the validation text."""
    withheld = []
    for measure in measures:
        # downstream tasks are not of that text
        of_text = measure.metric.key.startswith("val/") and not is_task_key(measure.metric.key)
        withheld.append(withhold_verdicts(measure, reason) if of_text else measure)
    return withheld


def _is_informative(key: str, run: Run) -> bool:
    """Whether a run has a value that says something: active parameters do where they are not all."""
    return key in run.values and not (key == "params_active" and run.values[key] == run.values.get("params"))


def _list_other_metrics(decides: Metric, usual: Metric, runs: list[Run], plan: StudyPlan) -> list[Metric]:
    """Return every metric that the runs have and that does not decide."""
    skipped = {decides, usual}
    if plan.design == "search":
        skipped.add(METRICS[0])  # the loss of both halves together
    metrics = []
    for metric in (*METRICS, *list_task_metrics(runs)):
        if metric not in skipped and any(_is_informative(metric.key, run) for run in runs):
            metrics.append(metric)
    return metrics


def correct_over_tasks(strata: list[Stratum]) -> list[Stratum]:
    """Return the strata with Holm's p over the comparisons of all tasks, and the verdicts that it allows.

    Each was judged as if the p-values of the other tasks were larger than its own, which asks too much. Where arms
    stopped at different looks it stays so.
    """
    judged = [contrast for stratum in strata for contrast in stratum.comparisons[0].contrasts if contrast.df]
    if len({contrast.seeds for contrast in judged}) > 1:
        return strata
    # one arm has a comparison in each task, so that its name is not enough to tell them apart: an object's id is;
    # zeros before the number, since ties go by name
    names = {f"{number:09d}": contrast for number, contrast in enumerate(judged)}
    adjusted = holm_adjust({name: contrast.p for name, contrast in names.items()})
    p_holm = {id(contrast): adjusted[name] for name, contrast in names.items()}
    corrected = []
    for stratum in strata:
        first, *rest = stratum.comparisons
        contrasts = []
        for contrast in first.contrasts:
            contrasts.append(redecide(first.metric, contrast, p_holm.get(id(contrast), contrast.p_holm)))
        corrected.append(replace(stratum, comparisons=[replace(first, contrasts=contrasts), *rest]))
    return corrected


def _compare_controls(loss: Comparison, runs: list[Run], best: list[Run], plan: StudyPlan) -> Comparison | None:
    """Compare the baseline at nearly its steps, and with nothing to learn, with itself, by the rule for arms.

    That with nothing to learn is compared apart, so that it costs the others no alpha.
    """
    controls = [
        replace(run, arm=f"{run.budget:g}x", role="arm")
        for run in runs
        if run.role == "budget" and run.budget in CONTROL_BUDGETS
    ]
    if not controls:
        return None
    base = [run for run in best if run.arm == loss.baseline]
    alone = replace(plan, pairs=False, versus=[])
    compared = compare_metric(loss.metric, [*base, *controls], loss.baseline, alone)
    shuffled = [replace(run, arm=SHUFFLED, role="arm") for run in runs if run.role == "shuffled"]
    if not shuffled:
        return compared
    negative = compare_metric(loss.metric, [*base, *shuffled], loss.baseline, alone)
    return replace(compared, contrasts=[*compared.contrasts, *negative.contrasts])


def sees_small_compute(controls: Comparison) -> bool:
    """Return whether the baseline at 0.95 of its steps is worse and at 1.05 better: 5 % of compute are seen.

    Both ways: a study that calls everything worse would pass by one.
    """
    verdicts = {contrast.arm: contrast.verdict for contrast in controls.contrasts if contrast.arm != SHUFFLED}
    return verdicts == {"0.95x": "worse", "1.05x": "better"}


def _compare_fresh_seeds(
    decides: Metric,
    runs: list[Run],
    baseline: str,
    plan: StudyPlan,
    *,
    margin: tuple[float, str] | None,
    minutes: float,
) -> Comparison | None:
    """Compare runs on fresh seeds, judged once and on these alone."""
    fresh_runs = [run for run in runs if run.role == "confirm"]
    if not fresh_runs:
        return None
    # fresh seeds are looked at once, so all of alpha is theirs
    once = replace(plan, pairs=False, versus=[], looks=[])
    fresh = compare_metric(decides, fresh_runs, baseline, once, margin=margin, minutes=minutes)
    _, incomparable = choose_metric([replace(run, role="arm") for run in fresh_runs], decides)
    return withhold_verdicts(fresh, incomparable) if incomparable and decides is not BITS else fresh
