"""Decision accuracy in words and as tables: what a small size said of a larger one."""

import math

from gptlab.report.text.columns import Column
from gptlab.report.text.markup import Sentence, bold, escape, parse_sentence
from gptlab.report.text.numbers import count_decimals, format_range, format_signed
from gptlab.stats.ladder.decisions import Decision, Difference, SizePair
from gptlab.stats.ladder.findings import Estimate
from gptlab.stats.results import make_metric


def name_pair(pair: SizePair) -> str:
    """Return the name of a pair of sizes, such as "nano and micro, rates tuned"."""
    return f"{pair.small} and {pair.large}{', rates tuned' if pair.tuned else ''}"


def describe_pair(pair: SizePair) -> list[Sentence]:
    """Return the answer in words, then what the noise of the seeds leaves of it."""
    every, sizes = pair.shares["all"], f"at {escape(pair.small)} and at {escape(pair.large)}"
    percent = format_percent(every.agree / every.of)
    sentences = [
        f"**{every.agree} of {every.of}** decisions have the same sign {sizes}: {percent} "
        f"({format_percents(every.low, every.high)}). {escape(pair.large)} took {pair.compute:.3g} times the compute. "
        "The interval is of further decisions of the kind.",
        f"With endless seeds these very decisions would agree in {_format_estimate(pair.true)}.",
    ]
    if pair.one_seed is not None:
        across = format_percent(pair.one_seed.across)
        small, large = format_percent(pair.one_seed.small), format_percent(pair.one_seed.large)
        sentences.append(
            f"One seed at {escape(pair.small)} has the sign of one seed at {escape(pair.large)} in {across}. Two seeds "
            f"of {escape(pair.small)} have each other's in {small}, two of {escape(pair.large)} in {large}: what these "
            "lack is noise, and no change with size."
        )
    agree, of = pair.pairs
    sentences.append(
        f"Of all {of} pairs of arms, as DataDecide counts (arXiv:2504.11393), {agree} agree, "
        f"{format_percent(agree / of)}; with endless seeds {_format_estimate(pair.pairs_true)}."
    )
    if pair.undecided:
        names = ", ".join(bold(arm) for arm in pair.undecided)
        sentences.append(f"No difference at both sizes, as runs diverged, failed or are missing: {names}.")
    return [parse_sentence(sentence) for sentence in sentences]


def build_decision_columns(pair: SizePair) -> list[Column]:
    """Return a row for each decision, the largest gain at the large size first."""
    metric = make_metric(pair.metric)
    sign = 1 if metric.better == "lower" else -1
    arms, studies, at_small, at_large, signs, resolved, chances = [], [], [], [], [], [], []
    for decision in sorted(pair.decisions, key=lambda decision: (sign * decision.large.mean, decision.arm)):
        arms.append(decision.arm)
        studies.append(decision.study)
        at_small.append(_format_difference(decision.small))
        at_large.append(_format_difference(decision.large))
        signs.append("same" if decision.agrees else "differ")
        resolved.append(name_resolved_sizes(decision, pair))
        chances.append(format_percent(decision.chance))
    several = len(set(pair.studies)) > 1
    return [
        Column("arm", arms, left=True),
        *([Column("study", studies, left=True)] if several else []),
        Column(f"{pair.small}, {metric.unit}", at_small),
        Column(f"{pair.large}, {metric.unit}", at_large),
        Column("signs", signs, left=True),
        Column("resolved at", resolved, left=True),
        Column("chance that\ntrue signs agree", _align_right(chances)),
    ]


def name_resolved_sizes(decision: Decision, pair: SizePair) -> str:
    """Return at which sizes the interval of a decision leaves 0 out."""
    names = {
        "same": "both",
        "reversed": "both: reversed",
        "small alone": f"{pair.small} alone",
        "large alone": f"{pair.large} alone",
        "open": "neither",
    }
    return names[decision.outcome]


def describe_rule(pair: SizePair) -> str:
    """Return how the table of decisions is to be read."""
    better = "Below" if make_metric(pair.metric).better == "lower" else "Above"
    tuned = " at its best rate of the grid at each size" if pair.tuned else " at the rate of the model"
    return (
        f"Arm less baseline, each{tuned}. {better} 0 the arm is better. Intervals of 95 % are of one difference, not "
        "corrected for how many there are; a difference is resolved where its interval leaves 0 out."
    )


def build_share_columns(pair: SizePair) -> list[Column]:
    """Return how many signs agree, of all decisions and of those that a size resolves."""
    names = {
        "all": "all",
        "resolved at the small size": f"resolved at {pair.small}",
        "resolved at the large size": f"resolved at {pair.large}",
        "resolved at both": "resolved at both",
    }
    numbers, agreeing, shares, intervals = [], [], [], []
    for share in map(pair.shares.__getitem__, names):
        numbers.append(str(share.of))
        agreeing.append(str(share.agree))
        # of no decision there is no share
        shares.append(format_percent(share.agree / share.of) if share.of else "")
        intervals.append(format_percents(share.low, share.high) if share.of else "")
    return [
        Column("decisions", [*names.values()], left=True),
        Column("number", _align_right(numbers)),
        Column("same sign", _align_right(agreeing)),
        Column("share", _align_right(shares)),
        Column("95 % interval", intervals),
    ]


def build_slot_columns(pair: SizePair) -> list[Column]:
    """Return how many signs agree, by the slot that changes."""
    slots: dict[str, list[Decision]] = {}
    for decision in pair.decisions:
        slots.setdefault(decision.slot or "none named", []).append(decision)
    every, agreeing, resolved, resolved_agreeing = [], [], [], []
    for slot in sorted(slots):
        decisions = slots[slot]
        at_both = [decision for decision in decisions if decision.outcome in ("same", "reversed")]
        every.append(str(len(decisions)))
        agreeing.append(_count_agreeing(decisions))
        resolved.append(str(len(at_both)))
        resolved_agreeing.append(_count_agreeing(at_both))
    return [
        Column("slot", sorted(slots), left=True),
        Column("decisions", _align_right(every)),
        Column("same sign", _align_right(agreeing)),
        Column("resolved at both", _align_right(resolved)),
        Column("of these same sign", _align_right(resolved_agreeing)),
    ]


def format_percent(share: float) -> str:
    """Return a share as 83 %."""
    return f"{100 * share:.0f} %"


def format_percents(low: float, high: float) -> str:
    """Return an interval of shares as 55 to 95 %."""
    return f"{format_range(100 * low, 100 * high, 0)} %"


def _align_right(cells: list[str]) -> list[str]:
    width = max(map(len, cells))
    return [cell.rjust(width) for cell in cells]


def _count_agreeing(decisions: list[Decision]) -> str:
    return str(sum(decision.agrees for decision in decisions))


def _format_estimate(estimate: Estimate) -> str:
    return f"about {format_percent(estimate.value)} ({format_percents(estimate.low, estimate.high)})"


def _format_difference(difference: Difference) -> str:
    # as many decimals as the interval deserves; one seed has none, and gets four
    half = (difference.high - difference.low) / 2
    decimals = count_decimals(half) if half > 0 and math.isfinite(half) else 4
    return f"{format_signed(difference.mean, decimals)} ({format_range(difference.low, difference.high, decimals)})"
