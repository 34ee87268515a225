"""Numbers as they are shown: never more digits than their interval supports.

An interval's half-width keeps two digits where it begins with 1 or 2, else one, and the number ends where it does.
"""

import math
from collections.abc import Iterable

from gptlab.stats.results import Contrast, Metric

MINUS = "\N{MINUS SIGN}"


def places(half: float) -> int:
    """Decimals that an interval of this half-width supports; 4 where it is no number above 0, never more than 5."""
    if not 0 < half < math.inf:
        return 4
    exponent = math.floor(math.log10(half))
    return min(5, max(0, -exponent + (half / 10**exponent < 3)))


def interval(contrast: Contrast) -> tuple[float, float] | None:
    """The 95 % interval; none from one seed."""
    if len(contrast.seeds) < 2 or not math.isfinite(contrast.high - contrast.low):
        return None
    return contrast.low, contrast.high


def supported(contrast: Contrast, delta: float) -> int:
    """Decimals of a difference: those of its interval, and of the margin of equivalence where it has no width."""
    ends = interval(contrast)
    return places((ends[1] - ends[0]) / 2 if ends and ends[1] > ends[0] else delta)


def fixed(number: float, decimals: int) -> str:
    """1.234, −1.234; never −0."""
    text = f"{number:.{decimals}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", MINUS)


def signed(number: float, decimals: int) -> str:
    """+1.234, −1.234, 0.000."""
    text = fixed(number, decimals)
    return text if text.startswith(MINUS) or float(text) == 0 else f"+{text}"


def span(low: float, high: float, decimals: int) -> str:
    """An interval in words."""
    return f"{fixed(low, decimals)} to {fixed(high, decimals)}"


def chance(p: float) -> str:
    """A p-value, to two digits."""
    return "<0.001" if p < 0.001 else f"{p:.2f}" if p >= 0.095 else f"{p:.2g}"


def percent(ratio: float, half: float | None = None) -> str:
    """A ratio as a change, with the digits that its half-width supports: +3.1 %."""
    return f"{signed(100 * (ratio - 1), 1 if half is None else min(1, places(100 * half)))} %"


def value(metric: Metric, number: float, half: float = 0.0) -> str:
    """A number of a metric without its unit, large ones with a letter: 1,280, 212 M, 12.1."""
    if metric.seeded and half > 0 and abs(number) < 1000:
        return fixed(number, min(places(half), 4))
    return large(number) if abs(number) >= 1000 else f"{number:.3g}".replace("-", MINUS)


def large(number: float) -> str:
    """1,280, 808,448, 12.3 M, 1.66 G."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if abs(number) >= size:
            return f"{number / size:.3g} {letter}"
    return f"{number:,.0f}".replace("-", MINUS)


def aligned(texts: Iterable[str]) -> list[str]:
    """Texts of equal width, their decimal points one below the other."""
    texts = list(texts)
    after = [len(text) - text.find(".") if "." in text else 0 for text in texts]
    padded = [text + " " * (max(after, default=0) - own if text else 0) for text, own in zip(texts, after, strict=True)]
    wide = max(map(len, padded), default=0)
    return [text.rjust(wide) for text in padded]
