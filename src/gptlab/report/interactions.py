"""The report's section on interactions: do two changes of a grid do together what each does alone?"""

from gptlab.report.model import Item, Table, Words
from gptlab.report.text.columns import Column, format_intervals
from gptlab.report.text.markup import Sentence, bold, parse_sentence
from gptlab.report.text.numbers import align_decimal_points, count_decimals, format_fixed, format_p_value, format_signed
from gptlab.report.text.view import View, pluralize
from gptlab.stats.interactions.findings import Interaction

MEANINGS = {"synergistic": "better than", "antagonistic": "worse than"}
"""Together against the sum of both alone."""


def build_interaction_items(view: View) -> list[Item | None]:
    """Return the interactions of a size: the rule, those that are resolved, the table; nothing where axes are one."""
    interactions = view.stratum.interactions
    if not interactions:
        return []
    # what is not resolved stands in the table alone: with many axes it is nearly all
    sentences = [describe_interaction(view, item) for item in interactions if item.verdict != "not resolved"]
    caption = f"Together less the sum of both alone, {view.comparison.metric.unit}"
    return [Words([_describe_rule(view), *sentences]), Table(caption, build_interaction_columns(view))]


def _describe_rule(view: View) -> str:
    """Return how interactions are judged: pairing, noise, and the correction for their number."""
    interactions, delta = view.stratum.interactions, view.comparison.delta
    contexts = max(item.contexts for item in interactions)
    averaged = f" Each is the mean over {contexts} combinations of the other axes." if contexts > 1 else ""
    # an arm that stopped at a look has fewer: each interaction has the seeds that all four arms share
    seeds = sorted({len(item.seeds) for item in interactions})
    counts = " or ".join(map(str, seeds))
    kinds = " and ".join(sorted({item.variance for item in interactions}))
    return (
        f"A difference of differences, by seed over four arms; {counts} paired seeds, {kinds} variance.{averaged} "
        f"Holm's correction is over {pluralize(len(interactions), 'interaction')}, apart from that over the arms. "
        f"Additive means within {format_fixed(delta, count_decimals(delta))} of the sum. "
        "Four runs enter, so an interaction needs twice the seeds of a difference of its size."
    )


def describe_interaction(view: View, item: Interaction) -> Sentence:
    """Return an interaction that is resolved as a sentence."""
    decimals, unit = _count_decimals(item), view.comparison.metric.unit
    pair, total = f"{bold(item.first)} and {bold(item.second)}", item.first_alone + item.second_alone
    interval = f"95 % interval {format_signed(item.low, decimals)} to {format_signed(item.high, decimals)}"
    sizes = f"{format_signed(item.together, decimals)} {unit} where the sum is {format_signed(total, decimals)}"
    if item.verdict == "additive":
        return parse_sentence(f"{pair} are {bold('additive')}: together {sizes} ({interval}).")
    relation = MEANINGS[item.verdict]
    return parse_sentence(f"{pair} are {bold(item.verdict)}, {relation} their sum: together {sizes} ({interval}).")


def build_interaction_columns(view: View) -> list[Column]:
    """Return a row for each two changes: alone, together, the interaction with its interval and its verdict."""
    words, numbers = [], []
    intervals: list[tuple[float, float, int] | None] = []
    for item in view.stratum.interactions:
        # digits by row: those that the interaction's own interval supports
        decimals = _count_decimals(item)
        values = (item.first_alone, item.second_alone, item.together, item.interaction)
        words.append((item.first, item.second, item.verdict))
        numbers.append([*(format_signed(value, decimals) for value in values), format_p_value(item.p_holm)])
        intervals.append((item.low, item.high, decimals))
    firsts, seconds, verdicts = ([*column] for column in zip(*words, strict=True))
    first_alone, second_alone, together, differences, p_values = map(align_decimal_points, zip(*numbers, strict=True))
    return [
        Column("first", firsts, left=True),
        Column("second", seconds, left=True),
        Column("first alone", first_alone),
        Column("second alone", second_alone),
        Column("together", together),
        Column("interaction", differences),
        Column("95 % interval", format_intervals(intervals)),
        Column("p (Holm)" if len(numbers) > 1 else "p", p_values),
        Column("verdict", verdicts, left=True),
    ]


def _count_decimals(item: Interaction) -> int:
    return count_decimals((item.high - item.low) / 2)
