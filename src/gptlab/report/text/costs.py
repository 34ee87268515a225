"""Sentences on what an arm costs beside the baseline, and what is left of its gain."""

from dataclasses import dataclass, field

from gptlab.report.text.numbers import MINUS, count_decimals, format_change, format_fixed, format_range
from gptlab.report.text.view import View
from gptlab.stats.results import STEP, WRITE

TIMES = {STEP.key: "a step", WRITE.key: "at writing"}
SIZES = {"memory/peak_bytes": "less", "cache_bytes_per_token": "less", "params": "fewer"}
"""What a person pays, of the metrics in summary.json, and how a saving is said; the opposite is "more"."""


@dataclass
class CostDifference:
    """Phrases about an arm's speed and size, and whether it is cheaper or dearer than the baseline in some of them."""

    speed: list[str] = field(default_factory=list)
    size: list[str] = field(default_factory=list)
    cheaper: bool = False
    dearer: bool = False

    def add_verdict(self, verdict: str) -> None:
        """Count a verdict of one cost."""
        self.cheaper |= verdict == "better"
        self.dearer |= verdict == "worse"


def compare_costs(view: View, arm: str) -> CostDifference:
    """Return phrases on the costs in which an arm certainly differs from the baseline."""
    cost = CostDifference()
    for key, action in TIMES.items():
        timing = view.find_timing(key)
        if timing is None or arm not in timing.ratios:
            continue
        verdict, (ratio, low, high) = timing.verdicts.get(arm), timing.ratios[arm]
        spread = f"{100 * timing.spread:.2g} %"
        if verdict in ("better", "worse"):
            change = _drop_sign(format_change(ratio, (high - low) / 2))
            cost.speed.append(f"{change} {'faster' if ratio < 1 else 'slower'} {action} (A/A spread {spread})")
            cost.add_verdict(verdict)
        elif key == STEP.key:  # that training is no slower is worth a word; of writing it would be too many
            cost.speed.append(f"no faster or slower {action} than the clock can tell (A/A spread {spread})")
    for key, less in SIZES.items():
        comparison = view.find_comparison(key)
        if comparison is None:
            continue
        contrast = next((contrast for contrast in comparison.contrasts if contrast.arm == arm), None)
        if contrast and contrast.verdict in ("better", "worse") and contrast.against_mean:
            phrase = f"{less if contrast.difference < 0 else 'more'} {comparison.metric.name}"
            change = _drop_sign(format_change(contrast.mean / contrast.against_mean))
            if change != "0 %":  # certain, but too small to be told
                cost.size.append(f"{change} {phrase}")
                cost.add_verdict(contrast.verdict)
    return cost


def describe_costs(view: View, arm: str) -> str:
    """Return a sentence of an arm's costs, with a blank before it; empty where nothing is certain."""
    cost = compare_costs(view, arm)
    speed, size = join_phrases(cost.speed), join_phrases(cost.size)
    phrases = [f"is {speed}"] if speed else []
    phrases += [f"takes {size}"] if size else []
    return f" {view.bold_name(arm)} {', and '.join(phrases)}." if phrases else ""


def join_phrases(phrases: list[str]) -> str:
    """Return "a, b and c"; empty for no phrases."""
    return " and ".join(filter(None, [", ".join(phrases[:-1]), *phrases[-1:]]))


def _drop_sign(change: str) -> str:
    # the words say the direction: faster, more, fewer
    return change.lstrip("+" + MINUS).replace(".0 %", " %")


def describe_compute_value(view: View, arm: str) -> str:
    """Return sentences of what a difference is worth in compute of the baseline, and net of speed.

    A blank stands before them; they are empty where budgets were not varied.
    """
    exchange, unit = view.stratum.exchange, view.comparison.metric.unit
    if exchange is None or arm not in exchange.equivalents:
        return ""
    factor, low, high = exchange.equivalents[arm]
    decimals = count_decimals((high - low) / 2)
    interval = format_range(low, high, decimals)
    sentences = f" The baseline would need {format_fixed(factor, decimals)} times the compute ({interval})."
    if arm in exchange.net:
        net, low, high = exchange.net[arm]
        decimals = count_decimals((high - low) / 2)
        size = f"{format_fixed(abs(net), decimals)} {unit} {'better' if net < 0 else 'worse'}"
        # a gain is told without its sign, so its ends change places
        interval = format_range(-high, -low, decimals) if net < 0 else format_range(low, high, decimals)
        # the interval once more, not a test of its own: it holds the error of the slope and of the clock
        verdict = "open whether it is worth it"
        if high < 0:
            verdict = "worth it"
        elif low > 0:
            verdict = "not worth it"
        sentences += f" Net of speed it is {size} ({interval}). Verdict: **{verdict}** at this scale."
    return sentences
