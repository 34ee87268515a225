"""The rules under which arms were compared, the noise, and what the study cannot show."""

import math

from gptlab.console.units import format_duration
from gptlab.report.text.markup import Sentence, bold, parse_sentence
from gptlab.report.text.numbers import count_decimals, format_fixed, format_range, format_signed
from gptlab.report.text.view import View, build_command, make_views, pluralize
from gptlab.stats.comparability import ORDER_FACTS, list_differing
from gptlab.stats.results import Contrast, Findings, Front, Noise, Run, Scaling
from gptlab.stats.study_comparison import SHUFFLED, sees_small_compute

MATCHED = {
    "tokens": "All arms learn from the same tokens in the same order.",
    "params": "All arms have the same number of parameters, within 0.5 %.",
    "flops": "All arms spend the same FLOPs, within 1 %.",
    "time": "All arms train for the same measured seconds, within 5 %.",
}
"""What `match` makes alike, said where the runs bear it out."""
TUNED = {
    "shared": "All arms are compared at a shared learning rate; one that is tuned for itself may do better.",
    "grid": "Each arm is judged at its best learning rate of the same grid, by mean over seeds.",
    "transfer": "Each arm is judged at the learning rate that was best at the smallest rung, by mean over seeds.",
}
SCALE = (
    "Small scale: in the one large study (of data sets, DataDecide) the order at a small size held at 1B parameters in "
    "about 80 % of pairs; of 20 published changes of architecture only 2 held at 1.2B (arXiv:2605.20798)."
)


# -- rules


def describe_rules(findings: Findings) -> list[str]:
    """Return what was the same for all arms, what was changed to make it so, and how far apart they remain.

    By the facts of the runs, and not by what was asked for.
    """
    match, tune = findings.plan.match, findings.plan.tune
    runs = [run for run in findings.runs if run.role == "arm" and run.status == "finished"]
    rules = [MATCHED[match]] if match in MATCHED and runs and _is_matched(findings, runs) else []
    if match in ("tokens", "params", "flops"):
        # fewer or more steps are the very means by which FLOPs are matched
        expected = ("steps",) if match == "flops" else ()
        differing = [fact for fact in _list_differing(findings, runs, [*ORDER_FACTS]) if fact not in expected]
        if differing:
            names = ", ".join(ORDER_FACTS[fact] for fact in differing)
            rules.append(f"Arms do not learn from the same tokens in the same order: they differ in {names}.")
    rates = _list_differing(findings, runs, ["optimizer.lr", "optimizer._target_"]) if tune == "shared" else []
    if rates:
        names = " and ".join({"optimizer.lr": "learning rate"}.get(fact, "optimizer") for fact in rates)
        rules.append(f"Arms differ in their {names}, which is not tuned for each.")
    elif tune in TUNED:
        rules.append(TUNED[tune])
    rules += _describe_mean_rates(runs) if tune == "shared" else []
    for arm, adjustments in findings.plan.settled.items():
        rules += [f"{arm}: {adjustment.reason}" for adjustment in adjustments if adjustment.reason]
    return [*rules, *findings.mismatch]


def _describe_mean_rates(runs: list[Run]) -> list[str]:
    """Return a sentence where schedules differ in the rate at which they train on average."""
    means = {run.arm: run.values[MEAN_FACTOR] for run in runs if MEAN_FACTOR in run.values}
    if not means or max(means.values()) <= MEAN_TOLERANCE * min(means.values()):
        return []
    listed = ", ".join(f"{arm} at {mean:.2f}" for arm, mean in means.items())
    return [f"Schedules of different means, of the peak rate: {listed}. What differs may be the rate; try tune=grid."]


MEAN_FACTOR = "schedule/mean_factor"
"""Key of a run's summary."""
MEAN_TOLERANCE = 1.05
"""Ratio of mean rates up to which schedules train at the same one."""


def _is_matched(findings: Findings, runs: list[Run]) -> bool:
    """Whether the runs of each size have in common what was to be matched."""
    match = findings.plan.match
    if match == "tokens":
        return not _list_differing(findings, runs, [*ORDER_FACTS])
    for size in {run.size for run in runs}:
        # each size is matched in itself, to its own baseline
        costs = [_matched_cost(match, run.values) for run in runs if run.size == size]
        known = [cost for cost in costs if cost is not None]
        if known and max(known) > (1 + 2 * TOLERANCES[match]) * min(known):
            return False
    return True


TOLERANCES = {"params": 0.005, "flops": 0.01, "time": 0.05}
"""Relative difference from the baseline up to which a cost is matched; two arms may be twice as far apart."""


def _matched_cost(match: str, values: dict[str, float]) -> float | None:
    """Return the cost of a run in what is matched; None where its summary does not say."""
    if match == "flops" and {"flops_per_token", "tokens"} <= values.keys():
        return values["flops_per_token"] * values["tokens"]
    return values.get({"params": "params", "time": "time/train_s"}.get(match, ""))


def describe_margin(view: View) -> str:
    """Return the margin of equivalence and where it comes from, in words; "" where no run of the baseline finished."""
    comparison = view.comparison
    if comparison.delta <= 0:
        return ""
    margin = format_fixed(comparison.delta, count_decimals(comparison.delta))
    return f"Equivalent means within {margin} {comparison.metric.unit}: {comparison.delta_from}."


# -- noise


def _list_differing(findings: Findings, runs: list[Run], facts: list[str]) -> list[str]:
    """Return the facts in which arms differ that are compared: those of one task or rung, where a study has several."""
    # rungs and tasks differ among each other by design
    sizes = findings.plan.tasks or findings.plan.ladder
    if not sizes:
        return list_differing(runs, facts)
    differing: set[str] = set()
    for size in sizes:
        differing |= {*list_differing([run for run in runs if run.size == size], facts)}
    return [fact for fact in facts if fact in differing]


def describe_noise(view: View) -> list[str]:
    """Return how much runs differ when nothing does, and which difference these seeds could have seen."""
    noise, unit, name = view.comparison.noise, view.comparison.metric.unit, view.comparison.metric.name
    if noise is None:
        spread = next((row.sd for row in view.comparison.arms if row.arm == view.comparison.baseline), None)
        return [f"Seeds alone move the {name} by {_format_sd(spread)} {unit} (SD)."] if spread else []
    lines = [
        f"Seeds alone move the {name} by {_format_sd(noise.seed_sd)} {unit} (SD), a paired difference by "
        f"{_format_sd(noise.pair_sd)}; {_describe_pairing(noise)}.",
        f"This study would have seen a difference of {_format_sd(noise.smallest)} with 80 % power.",
    ]
    if noise.twin is not None:
        limit = f"up to {_format_sd(noise.twin)}: a smaller difference means nothing"
        lines.append(f"The baseline run twice differs from itself by {limit if noise.twin else 'exactly 0'}.")
    return [*lines, *describe_controls(view)]


def describe_signals(view: View) -> list[str]:
    """Return a sentence on signal and noise of each downstream task, and whether it is too weak to decide by."""
    lines = []
    for comparison in view.stratum.comparisons:
        signal, name = comparison.signal, comparison.metric.name
        if signal is None:
            continue
        noises = {"seeds": signal.seed_noise, "the last checkpoints": signal.checkpoint_noise}
        known = [f"{sd:.2%} over {what}" for what, sd in noises.items() if sd is not None]
        line = f"{name}: signal {signal.signal:.2%} of the mean, noise {' and '.join(known) or 'unknown'}"
        if signal.ratio is not None and signal.needed is not None:
            line += f"; ratio {signal.ratio:.1f}, of which equal arms reach {signal.needed:.1f} once in twenty"
        lines.append(f"{line}: weak, decide nothing by it." if signal.is_weak else f"{line}.")
    return lines


def describe_controls(view: View) -> list[str]:
    """Return whether the study sees a small difference in compute: the baseline's own, with fewer and more steps."""
    controls = view.stratum.controls
    if controls is None:
        return []
    budgets = [control for control in controls.contrasts if control.arm != SHUFFLED]
    answer = "yes" if sees_small_compute(controls) else "no"
    phrases = []
    for control in budgets:
        difference = format_signed(control.difference, count_decimals(control.high - control.low))
        phrases.append(f"{control.arm} {difference} ({control.verdict})")
    negative = [describe_negative_control(control) for control in controls.contrasts if control.arm == SHUFFLED]
    return [f"This study sees a 5 % difference in compute: {answer}; the baseline at {', '.join(phrases)}.", *negative]


def describe_negative_control(control: Contrast) -> str:
    """Return whether the baseline looks good where it has nothing to learn: on targets shuffled in each batch."""
    difference = format_signed(control.difference, count_decimals(control.high - control.low))
    if control.verdict == "worse":
        return f"Trained on shuffled targets the baseline is worse by {difference}, as it must be."
    return (
        f"Trained on shuffled targets the baseline is not worse ({difference}, {control.verdict}): "
        "what this study measures is not what its arms learn."
    )


def _describe_pairing(noise: Noise) -> str:
    correlation = f"(correlation {format_signed(noise.rho, 2)})"
    # within what few seeds can tell from 1
    if noise.gain < 1.1:
        return f"pairing by seed gained nothing {correlation}"
    return f"pairing by seed cut the variance of a difference {noise.gain:.2g}-fold {correlation}"


def _format_sd(number: float) -> str:
    """Return two digits: an SD of few seeds has no more."""
    return f"{number:.2g}"


# -- caveats


def list_caveats(findings: Findings) -> list[Sentence]:
    """Return what a reader must know before going further; the caveat of small scale always."""
    caveats = []
    view = next((view for view in make_views(findings) if has_one_seed(view)), None)
    if view is not None:
        arms = len(view.contrasts)
        # the best of arms + 1 equal ones is the baseline in 1 / (arms + 1) of studies
        chance = round(100 * arms / (arms + 1))
        caveats.append(
            parse_sentence(
                f"One seed: **no verdict possible**. The order of the arms may be noise: of {pluralize(arms, 'arm')} "
                f"equal to the baseline some looks better in {chance} % of studies.",
                build_command(findings.plan, 2),
            )
        )
    return [*caveats, parse_sentence(SCALE)]


def has_one_seed(view: View) -> bool:
    """Return whether no arm has two seeds in common with the baseline."""
    return bool(view.contrasts) and all(len(contrast.seeds) < 2 for contrast in view.contrasts.values())


def summarize_runs(findings: Findings) -> str:
    """Return how many runs finished, and the time of all."""
    finished = sum(run.status == "finished" for run in findings.runs)
    time = f", {format_duration(findings.seconds)} in all" if findings.seconds else ""
    return f"{finished} of {pluralize(len(findings.runs), 'run')} finished{time}"


# -- budgets and sizes


def describe_budgets(view: View) -> list[str]:
    """Return a sentence on how much the baseline's loss falls when its compute doubles."""
    exchange = view.stratum.exchange
    if exchange is None:
        return []
    # slopes are per ln of compute; a doubling is ln 2
    worth, error = -exchange.slope * math.log(2), exchange.slope_error * math.log(2)
    losses = ", ".join(f"{loss:.3f} at {budget:g}x" for budget, loss in sorted(exchange.budgets.items()))
    gain = f"{format_fixed(worth, count_decimals(1.96 * error))} {view.comparison.metric.unit}"
    return [
        f"The baseline with more and with less compute: {losses}. A doubling is worth {gain} "
        f"(standard error {error:.1g})."
    ]


def describe_fronts(view: View) -> list[Sentence]:
    """Return, for loss against each cost, the Pareto front and who is dominated by whom.

    Costs with the same outcome share a sentence. One seed has no interval to be beaten beyond, hence no front.
    """
    outcomes: dict[str, tuple[Front, list[str]]] = {}
    for front in [] if has_one_seed(view) else view.stratum.fronts:
        # as text: a dict is no key
        outcome = repr((front.front, front.dominated))
        outcomes.setdefault(outcome, (front, []))[1].append(front.cost.name)
    sentences = []
    for front, costs in outcomes.values():
        dominated_by: dict[str, list[str]] = {}
        for arm, winner in front.dominated.items():
            dominated_by.setdefault(winner, []).append(arm)
        sentence = f"Pareto front of {view.comparison.metric.name} and {', '.join(costs)}: "
        sentence += _join_names(view, front.front)
        for winner, arms in dominated_by.items():
            sentence += f"; {view.bold_name(winner)} dominates {_join_names(view, arms)}"
        sentences.append(parse_sentence(f"{sentence}."))
    return sentences


def _join_names(view: View, arms: list[str]) -> str:
    return ", ".join(map(view.bold_name, arms))


def describe_scaling(scaling: Scaling) -> Sentence:
    """Return how fast an arm's loss falls with size."""
    axis = {"params": "parameters", "flops": "FLOPs"}[scaling.against]
    # a slope of ln(size), turned into a gain per doubling: the sign turns, and the ends change places
    gain = -scaling.slope * math.log(2)
    low, high = sorted((-scaling.low * math.log(2), -scaling.high * math.log(2)))
    decimals = count_decimals((high - low) / 2)
    return parse_sentence(
        f"{bold(scaling.arm)} gains {format_fixed(gain, decimals)} nats/token for each doubling of {axis} "
        f"(95 % interval {format_range(low, high, decimals)}; {len(scaling.points)} sizes)."
    )
