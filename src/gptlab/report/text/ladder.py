"""A ladder in words and as a table: what each arm's gain does from the smallest size to the largest."""

from gptlab.report.text.columns import Column
from gptlab.report.text.markup import Sentence, bold, parse_sentence
from gptlab.report.text.numbers import count_decimals, format_change, format_large, format_range, format_signed
from gptlab.report.text.view import MARKS
from gptlab.stats.ladder.findings import ArmTrend, Estimate, LadderFindings

WORDS = {
    "holds": "**holds**",
    "shrinks": "**shrinks**",
    "grows": "**grows**",
    "flips": "**flips**",
    "not resolved": "is **not resolved** over the rungs",
}


def describe_ladder(ladder: LadderFindings) -> list[Sentence]:
    """Return a sentence for each arm, and what weakens them."""
    sentences = [_describe_arm(ladder, trend) for trend in ladder.arms]
    notes = [parse_sentence(f"{note[0].upper()}{note[1:]}.") for note in ladder.notes]
    return [*sentences, *([] if len(sentences) == 0 else [_describe_rule(ladder)]), *notes]


def _describe_arm(ladder: LadderFindings, trend: ArmTrend) -> Sentence:
    """Return the sentence of an arm: what its gain does over the rungs, and at the size that it is projected to."""
    first, last, change, slope = trend.first, trend.last, trend.change, trend.per_decade
    if first is None or last is None or change is None or slope is None:
        verdicts = ", ".join(f"{rung.verdict} at {rung.size}" for rung in trend.rungs)
        return parse_sentence(f"{bold(trend.arm)}: **no verdict** over the rungs ({verdicts or 'no rung has one'}).")
    # named by its mean sign: nobody speaks of a negative gain
    noun = "gain" if first.value + last.value > 0 or trend.word == "flips" else "deficit"
    decimals = _count(first, last, change)
    ends = f"{format_signed(first.value, decimals)} at {trend.rungs[0].size}"
    ends += f", {format_signed(last.value, decimals)} at {trend.rungs[-1].size}"
    moved = f"change {_format(change, decimals)}; {_format(slope, _count(slope))} for tenfold compute"
    text = f"The {noun} of {bold(trend.arm)} {WORDS[trend.word]}: {ends} ({moved}), in {ladder.unit}."
    if trend.projected is not None and ladder.projection is not None:
        size, flops = ladder.projection
        times = flops / ladder.computes[-1]
        text += (
            f" Projected to {size}, {times:.3g} times the compute of {ladder.sizes[-1]}: "
            f"{_format(trend.projected, _count(trend.projected))}."
        )
    return parse_sentence(text)


def _describe_rule(ladder: LadderFindings) -> Sentence:
    several = f" over {len(ladder.arms)} arms" if len(ladder.arms) > 1 else ""
    form = "power laws of compute with one floor" if ladder.curves else "a line through two rungs"
    return parse_sentence(
        f"A gain is the baseline's loss less the arm's, {bold(ladder.baseline)} being the baseline. Intervals hold the "
        f"errors of the seeds and of the fit, {form}, at a level of {ladder.level:.2g}{several}."
    )


def build_ladder_columns(ladder: LadderFindings) -> list[Column]:
    """Return a row for each arm and rung: the gain, and the compute that it is worth there."""
    rows: list[tuple[str, ...]] = []
    for trend in ladder.arms:
        for rung in trend.rungs:
            worth = ""
            if rung.multiplier is not None:
                low, high = (format_change(end) for end in (rung.multiplier.low, rung.multiplier.high))
                worth = f"{format_change(rung.multiplier.value)} ({low} to {high})"
            # "better (exploratory)" has the mark of better
            mark = MARKS.get(rung.verdict.split(" (")[0], "")
            cells = (trend.arm, rung.size, format_large(rung.compute), str(rung.seeds))
            rows.append((*cells, _format(rung.gain, _count(rung.gain)), worth, f"{mark} {rung.verdict}".strip()))
        rows += [(trend.arm, size, "", "", "", "", "left out") for size in trend.left_out]
    heads = ("arm", "rung", "FLOPs", "seeds", f"gain, {ladder.unit}", "worth compute", "verdict")
    # rows to columns, as tables are made of columns
    columns = zip(*rows, strict=True) if rows else [()] * len(heads)
    return [
        Column(head, [*cells], left=head in ("arm", "rung", "verdict"))
        for head, cells in zip(heads, columns, strict=True)
    ]


def _count(*estimates: Estimate) -> int:
    return max(count_decimals((estimate.high - estimate.low) / 2) for estimate in estimates)


def _format(estimate: Estimate, decimals: int) -> str:
    return f"{format_signed(estimate.value, decimals)} ({format_range(estimate.low, estimate.high, decimals)})"
