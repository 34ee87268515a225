"""What an arm costs beside the baseline, in sentences; and what is left of its gain."""

from dataclasses import dataclass, field

from gptlab.report.text.numbers import MINUS, fixed, percent, places, span
from gptlab.report.text.view import Strong, View
from gptlab.stats.results import STEP, WRITE

TIMES = {STEP.key: "a step", WRITE.key: "at writing"}
SIZES = {"memory/peak_bytes": "less peak memory", "cache_bytes_per_token": "less cache", "params": "fewer parameters"}
"""Of the summaries, what a person pays; its opposite is more of it."""


@dataclass
class Price:
    """An arm's price in phrases, and which way it goes."""

    speed: list[str] = field(default_factory=list)
    size: list[str] = field(default_factory=list)
    cheaper: bool = False
    dearer: bool = False


def price(view: View, arm: str) -> Price:
    """What an arm costs more or less than the baseline, where that is certain."""
    found = Price()
    for key, what in TIMES.items():
        timing = view.timing(key)
        if timing is None or arm not in timing.ratios:
            continue
        verdict, (ratio, low, high), spread = timing.verdicts.get(arm), timing.ratios[arm], _share(timing.spread)
        if verdict in ("better", "worse"):
            share = _bare(percent(ratio, (high - low) / 2))
            found.speed.append(f"{share} {'faster' if ratio < 1 else 'slower'} {what} (A/A spread {spread})")
            _lean(found, verdict)
        elif key == STEP.key:
            found.speed.append(f"no faster or slower {what} than the clock can tell (A/A spread {spread})")
    for key, less in SIZES.items():
        compared = view.metric(key)
        one = next((one for one in compared.contrasts if one.arm == arm), None) if compared else None
        if one and one.verdict in ("better", "worse") and one.against_mean:
            what = less if one.difference < 0 else f"more {less.partition(' ')[2]}"
            share = _bare(percent(one.mean / one.against_mean))
            if share != "0 %":
                found.size.append(f"{share} {what}")
                _lean(found, one.verdict)
    return found


def _lean(found: Price, verdict: str) -> None:
    found.cheaper |= verdict == "better"
    found.dearer |= verdict == "worse"


def told(view: View, arm: str) -> list[str]:
    """The price as a sentence."""
    found = price(view, arm)
    speed = ["is ", joined(found.speed)] if found.speed else []
    size = [", and takes " if speed else "takes ", joined(found.size)] if found.size else []
    return [" ", view.name(arm), " ", *speed, *size, "."] if speed or size else []


def joined(phrases: list[str]) -> str:
    """a, b and c."""
    return " and ".join(filter(None, [", ".join(phrases[:-1]), phrases[-1]]))


def _bare(share: str) -> str:
    """A change in percent without its sign."""
    return share.lstrip("+" + MINUS).replace(".0 %", " %")


def _share(number: float) -> str:
    return f"{100 * number:.2g} %"


def net(view: View, arm: str) -> list[str]:
    """What a difference is worth in compute of the baseline, and what is left of it once speed is paid for."""
    exchange, unit = view.stratum.exchange, view.comparison.metric.unit
    if exchange is None or arm not in exchange.equivalents:
        return []
    factor, low, high = exchange.equivalents[arm]
    decimals = places((high - low) / 2)
    parts = [f" The baseline would need {fixed(factor, decimals)} times the compute ({span(low, high, decimals)})."]
    if arm in exchange.net:
        left, low, high = exchange.net[arm]
        decimals = places((high - low) / 2)
        size = f"{fixed(abs(left), decimals)} {unit} {'better' if left < 0 else 'worse'}"
        ends = (-high, -low) if left < 0 else (low, high)
        worth = "worth it" if high < 0 else "not worth it" if low > 0 else "open whether it is worth it"
        parts += [
            f" Net of speed it is {size} ({span(*ends, decimals)}). Verdict: ",
            Strong(worth),
            " at this scale.",
        ]
    return parts
