"""Findings in sentences: one verdict for each arm, with its size, its certainty and its price."""

import math
from dataclasses import replace

from gptlab.console import units
from gptlab.report.text.costs import CostDifference, compare_costs, describe_compute_value, describe_costs
from gptlab.report.text.looks import describe_resolution, format_alpha
from gptlab.report.text.markup import Sentence, Strong, bold, escape, parse_sentence
from gptlab.report.text.numbers import (
    choose_decimals,
    count_decimals,
    format_fixed,
    format_p_value,
    format_range,
    format_signed,
)
from gptlab.report.text.view import View, build_command, pluralize
from gptlab.stats.results import Comparison, Contrast, Findings, Run, Tuning
from gptlab.stats.spending import ALPHA

# -- verdicts


def describe_verdicts(view: View) -> list[Sentence]:
    """Return a sentence for each arm but the baseline, in the order of the table."""
    sentences = []
    for arm in view.order:
        if arm in view.contrasts:
            sentences.append(describe_contrast(view, view.comparison, view.contrasts[arm]))
        elif arm != view.comparison.baseline:
            sentences.append(describe_missing_arm(view, arm))
    return sentences


def describe_contrast(view: View, comparison: Comparison, contrast: Contrast) -> Sentence:
    """Return the verdict of one contrast as a sentence."""
    sentence = _describe_verdict(view, comparison, contrast)
    # once, and not for each metric
    judged = comparison in (view.comparison, view.stratum.confirmed)
    if judged and (rates := _describe_rates(view, contrast)):
        sentence = replace(sentence, parts=(*sentence.parts, f" {rates}"))
    # they differ where the verdict is exploratory
    if contrast.label == contrast.verdict:
        return sentence
    return replace(sentence, parts=(*sentence.parts, " ", Strong("Exploratory"), ": more seeds than planned."))


def _describe_rates(view: View, contrast: Contrast) -> str:
    """Return the learning rates of an arm and of what it is compared with, "" where all arms have one, not tuned."""
    both = (contrast.arm, contrast.against)
    # an axis over rates names them in its arms
    if any(knob in ("optimizer.lr", "model.lr") for arm in both for knob, _ in view.plan.get_values(arm)):
        return ""
    tuned = {tuning.arm: tuning.best for tuning in view.stratum.tunings}
    facts = {run.arm: run.facts for run in view.stratum.runs if run.role == "arm"}
    rates = [tuned.get(arm) or facts.get(arm, {}).get("optimizer.lr") for arm in both]
    optimizers = {facts.get(arm, {}).get("optimizer._target_") for arm in both}
    if None in rates or (not tuned and len({*rates}) == len(optimizers) == 1):
        return ""
    arm, against = (f"{float(rate):g}" for rate in rates if rate is not None)
    return f"Learning rates: {arm} against {against}, {'each the best of its grid' if tuned else 'not tuned'}."


def _describe_verdict(view: View, comparison: Comparison, contrast: Contrast) -> Sentence:
    if contrast.verdict in ("better", "worse"):
        return _describe_decided(view, comparison, contrast)
    if contrast.verdict == "equivalent":
        return _describe_equivalent(view, comparison, contrast)
    if contrast.verdict == "unstable":
        return describe_unstable_arm(view, comparison, contrast.arm)
    return _describe_unresolved(view, comparison, contrast)


def describe_missing_arm(view: View, arm: str) -> Sentence:
    """Return why an arm that shares no finished seed with the baseline has no verdict."""
    row = next(row for row in view.comparison.arms if row.arm == arm)
    if row.diverged:
        return describe_unstable_arm(view, view.comparison, arm)
    reason = f"{row.failed} of its runs failed" if row.failed else "it shares no finished seed with the baseline"
    return parse_sentence(f"{view.bold_name(arm)}: **no verdict**; {reason}.")


def describe_unstable_arm(view: View, comparison: Comparison, arm: str) -> Sentence:
    """Return the verdict of an arm of which some seeds diverged."""
    row = next(row for row in comparison.arms if row.arm == arm)
    seeds = row.finished + row.diverged + row.failed
    rest = "the loss of those that finished cannot be compared" if row.finished else "no run finished"
    rate = _describe_rate(view, comparison)
    return parse_sentence(
        f"{view.bold_name(arm)} diverged in {row.diverged} of {seeds} seeds; {rest}. Verdict: **unstable**{rate}."
    )


def _describe_rate(view: View, comparison: Comparison) -> str:
    """Return at which learning rates arms ran in a comparison, after a blank; empty where the plan does not say."""
    plan = view.plan
    if plan.tune == "shared":
        return " at the shared learning rate"
    if comparison is view.stratum.confirmed:
        return " at its best learning rate" if plan.tune else ""
    if plan.tune == "transfer" and view.stratum.size not in plan.ladder[:1]:
        return " at the learning rate that was carried to it"
    # a rate at which all seeds finished would have been taken before any other
    return " at every learning rate of the grid" if plan.tune else ""


def _describe_decided(view: View, comparison: Comparison, contrast: Contrast) -> Sentence:
    """Return the sentence of an arm that is better or worse."""
    arm, against, unit = view.bold_name(contrast.arm), view.bold_name(contrast.against), comparison.metric.unit
    decimals = choose_decimals(contrast, comparison.delta)
    low, high = contrast.low, contrast.high
    if contrast.difference < 0:  # the size is told without its sign
        low, high = -high, -low
    relation = "beats" if contrast.verdict == "better" else "is worse than"
    size = f"{format_fixed(abs(contrast.difference), decimals)} {unit}"
    interval = format_range(low, high, decimals)
    costs = ""
    if comparison is view.comparison:
        costs = describe_costs(view, contrast.arm) + describe_compute_value(view, contrast.arm)
    return parse_sentence(
        f"{arm} {relation} {against} by {size} "
        f"(95 % interval {interval}; {describe_evidence(comparison, contrast)}).{costs}"
    )


def _describe_equivalent(view: View, comparison: Comparison, contrast: Contrast) -> Sentence:
    """Return the sentence of an arm that is equivalent, and which of the two is cheaper."""
    arm, against, unit = view.bold_name(contrast.arm), view.bold_name(contrast.against), comparison.metric.unit
    margin = format_fixed(comparison.delta, count_decimals(comparison.delta))
    # an arm that is the baseline under another name, or a count
    if contrast.low90 == contrast.high90 == 0:
        certainty = "(no difference at all)."
    else:
        interval = format_range(contrast.low90, contrast.high90, choose_decimals(contrast, comparison.delta))
        evidence, bound = describe_evidence(comparison, contrast), describe_bound(comparison, contrast)
        certainty = f"(90 % interval {interval}; {evidence}). {bound}"
    costs = ""
    if comparison is view.comparison:
        costs = describe_costs(view, contrast.arm)
        cheaper = _find_cheaper_arm(contrast, compare_costs(view, contrast.arm))
        if cheaper:
            costs += f" Verdict: {bold(f'take {view.short_name(cheaper)}')}, the cheaper one."
    return parse_sentence(f"{arm} and {against} are **equivalent** within {margin} {unit} {certainty}{costs}")


def _find_cheaper_arm(contrast: Contrast, cost: CostDifference) -> str | None:
    """Return which of two equal arms is cheaper in something and dearer in nothing."""
    # neither, or both: then no arm is simply the cheaper one
    if cost.cheaper == cost.dearer:
        return None
    return contrast.arm if cost.cheaper else contrast.against


def _describe_unresolved(view: View, comparison: Comparison, contrast: Contrast) -> Sentence:
    """Return the sentence of an arm without a verdict: how large its difference may be, and what would resolve it."""
    arm, against, unit = view.bold_name(contrast.arm), view.bold_name(contrast.against), comparison.metric.unit
    decimals = choose_decimals(contrast, comparison.delta)
    difference = f"{arm} less {against}: {format_signed(contrast.difference, decimals)} {unit}"
    if contrast.verdict == "no verdict":
        why = "from one seed" if len(contrast.seeds) < 2 else "not by the same text and tokens"
        return parse_sentence(f"{difference}, {why}: **no verdict**.")
    interval = format_range(contrast.low, contrast.high, decimals)
    sentence = (
        f"{difference} (95 % interval {interval}; {describe_evidence(comparison, contrast)}): **not resolved**. "
        f"{describe_bound(comparison, contrast)}"
    )
    if noise := comparison.noise:
        sentence += f" The smallest effect that {len(contrast.seeds)} seeds can see here is {noise.smallest:.2g}."
    minutes = f" ({units.format_minutes(contrast.more_minutes)})" if contrast.more_minutes else ""
    # with a plan of looks only its next look may be advised, not any number of seeds
    if comparison.look is not None:
        command = build_command(view.plan, contrast.more_seeds) if contrast.more_seeds else ""
        resolution = describe_resolution(contrast, view.plan.looks)
        return parse_sentence(f"{sentence} {resolution}{f'{minutes}:' if command else '.'}".replace("..", "."), command)
    if contrast.more_seeds is None:
        return parse_sentence(f"{sentence} No sensible number of seeds would resolve it.")
    command = build_command(view.plan, contrast.more_seeds)
    seeds = pluralize(contrast.more_seeds, "more seed")
    end = ":" if command else "."
    return parse_sentence(f"{sentence} About {seeds}{minutes} would resolve it{end}", command)


def describe_evidence(comparison: Comparison, contrast: Contrast) -> str:
    """Return the number of seeds, the variance, and the p-value of a contrast that is decided, or nearly."""
    # an arm with two names is one comparison
    tested = [other for other in comparison.contrasts if other.difference or other.sd]
    tests = len({(other.difference, other.p, other.seeds) for other in tested})
    phrases = [f"{len(contrast.seeds)} paired seeds", f"{comparison.variance} variance"]
    # below all of alpha and not below a look's level: named, or a reader of the table wonders
    nearly = contrast.verdict == "not resolved" and contrast.level < contrast.p_holm < ALPHA
    if contrast.verdict in ("better", "worse") or nearly:
        holm = f" by Holm over {tests}" if tests > 1 else ""
        has_own = comparison.variance != "own"
        own = f", {format_p_value(contrast.p_own)} with its own variance" if has_own else ""
        level = f" against {format_alpha(contrast.level)}" if comparison.look else ""
        phrases.append(f"p {format_p_equation(contrast.p_holm)}{holm}{level}{own}")
    return "; ".join(phrases)


def format_p_equation(p: float) -> str:
    """Return a p-value after its sign: <0.001 or = 0.012."""
    # format_p_value brings its own sign below 0.001
    return format_p_value(p) if p < 0.001 else f"= {format_p_value(p)}"


def describe_bound(comparison: Comparison, contrast: Contrast) -> str:
    """Return how large a difference may still be, by two one-sided tests at 5 %."""
    largest = max(abs(contrast.low90), abs(contrast.high90))
    decimals = choose_decimals(contrast, comparison.delta)
    # up, not to the nearest: a bound that is rounded down would not hold
    bound = math.ceil(round(largest * 10**decimals, 6)) / 10**decimals
    return f"No difference beyond {format_fixed(bound, decimals)}."


# -- learning rates


def describe_tuning(view: View, tuning: Tuning) -> Sentence:
    """Return where an arm's best learning rate lies, and how much depends on it."""
    arm = view.bold_name(tuning.arm)
    if tuning.best is None:
        return parse_sentence(f"{arm} diverged at every learning rate of the grid.")
    if tuning.carried_loss is not None:
        rate, loss = tuning.carried_loss
        where = "which is the best here too" if rate == tuning.best else f"{loss:.2g} above the best here, {rate:g}"
        return parse_sentence(f"{arm} is judged at {tuning.best:g}, carried from the smallest rung, {where}.")
    if len(tuning.losses) < 2:
        return parse_sentence(f"{arm} ran at {tuning.best:g}, carried from the smallest rung.")
    has_sensitivity = tuning.sensitivity is not None
    sensitivity = f" (over the grid it loses {tuning.sensitivity:.2g} on average)" if has_sensitivity else ""
    edge = ", which is at the edge of the grid: its loss is an **upper bound**" if tuning.edge else ""
    return parse_sentence(f"{arm} is best at {tuning.best:g}{sensitivity}{edge}.")


# -- fresh seeds, failures


def describe_confirmation(view: View, fresh: Comparison) -> list[Sentence]:
    """Return the verdicts on seeds that chose nothing."""
    return [describe_contrast(view, fresh, contrast) for contrast in fresh.contrasts]


def describe_unfinished_runs(findings: Findings) -> list[Sentence]:
    """Return what failed, diverged or was never made: why, and where its log is.

    Seeds of one arm with the same end share a sentence.
    """
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in findings.runs:
        if run.status != "finished":
            # ten seeds that diverged are one finding, not ten
            groups.setdefault((_label_run(run), run.status, run.reason), []).append(run)
    sentences = []
    for (label, status, reason), runs in groups.items():
        numbers = sorted({run.seed for run in runs})
        seeds = f"seed{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
        why = f" ({reason})" if reason else ""
        # one log stands for all: they share the reason
        log = next((f"; see {run.log}" for run in runs if run.log), "")
        sentences.append(parse_sentence(f"{bold(label)}: {status}, {seeds}{escape(why + log)}"))
    return sentences


def _label_run(run: Run) -> str:
    """Return a run's size, arm, learning rate and role, but not its seed."""
    roles = {"twin": "again", "budget": f"{run.budget:g}x", "confirm": "on fresh seeds", "shuffled": "shuffled"}
    role = roles.get(run.role, "")
    return " ".join(filter(None, [run.size, run.arm, "" if run.lr is None else f"lr={run.lr:g}", role]))
