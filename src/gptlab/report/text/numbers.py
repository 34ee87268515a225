"""Numbers as text, never with more digits than their interval supports.

An interval's half-width keeps two digits where it begins with 1 or 2, else one, and the number ends where it does.
"""

import math
from collections.abc import Iterable

from gptlab.stats.results import Contrast, Metric

MINUS = "\N{MINUS SIGN}"


def count_decimals(half_width: float) -> int:
    """Return how many decimals an interval of this half-width supports, at most 5; 4 where it is not above 0."""
    if not 0 < half_width < math.inf:
        return 4
    exponent = math.floor(math.log10(half_width))
    leading = half_width / 10**exponent  # in [1, 10)
    return min(5, max(0, -exponent + (leading < 3)))


def get_interval(contrast: Contrast) -> tuple[float, float] | None:
    """Return the 95 % interval; None from one seed, or where there is no verdict."""
    if len(contrast.seeds) < 2 or contrast.verdict == "no verdict" or not math.isfinite(contrast.high - contrast.low):
        return None
    return contrast.low, contrast.high


def choose_decimals(contrast: Contrast, delta: float) -> int:
    """Return the decimals of a difference: by its interval, or by the margin `delta` where that has no width."""
    ends = get_interval(contrast)
    return count_decimals((ends[1] - ends[0]) / 2 if ends and ends[1] > ends[0] else delta)


def format_fixed(number: float, decimals: int) -> str:
    """Return 1.234 or −1.234; never −0."""
    text = f"{number:.{decimals}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", MINUS)


def format_signed(number: float, decimals: int) -> str:
    """Return +1.234, −1.234 or 0.000."""
    text = format_fixed(number, decimals)
    return text if text.startswith(MINUS) or float(text) == 0 else f"+{text}"


def format_range(low: float, high: float, decimals: int) -> str:
    """Return an interval in words: 0.011 to 0.025."""
    return f"{format_fixed(low, decimals)} to {format_fixed(high, decimals)}"


def format_p_value(p: float) -> str:
    """Return a p-value with two digits."""
    if p < 0.001:
        return "<0.001"
    return f"{p:.2f}" if p >= 0.095 else f"{p:.2g}"


def format_change(ratio: float, half_width: float | None = None) -> str:
    """Return a ratio as a change, with the digits that its half-width supports: +3.1 %."""
    decimals = 1 if half_width is None else min(1, count_decimals(100 * half_width))
    return f"{format_signed(100 * (ratio - 1), decimals)} %"


def format_value(metric: Metric, number: float, half_width: float = 0.0) -> str:
    """Return a number of a metric without its unit, large ones with a letter: 1,280, 212 M, 12.1."""
    if metric.seeded and half_width > 0 and abs(number) < 1000:
        return format_fixed(number, min(count_decimals(half_width), 4))
    return format_large(number) if abs(number) >= 1000 else f"{number:.3g}".replace("-", MINUS)


def format_large(number: float) -> str:
    """Return 1,280, 808,448, 12.3 M or 1.66 G."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if abs(number) >= size:
            return f"{number / size:.3g} {letter}"
    return f"{number:,.0f}".replace("-", MINUS)


def align_decimal_points(texts: Iterable[str]) -> list[str]:
    """Return texts padded to one width, their decimal points one below the other."""
    texts = list(texts)
    tails = [len(text) - text.find(".") if "." in text else 0 for text in texts]  # the point and what follows
    longest_tail = max(tails, default=0)
    padded = [text + " " * (longest_tail - tail if text else 0) for text, tail in zip(texts, tails, strict=True)]
    width = max(map(len, padded), default=0)
    return [text.rjust(width) for text in padded]
