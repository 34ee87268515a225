"""A forest plot in characters: a line an arm, its difference and 95 % interval, zero, and the margin of equivalence.

├───●───┤   │░░           interval and point; zero; the margin, shaded
◀           ▶             goes on beyond the edge
"""

import statistics
from dataclasses import dataclass

from gptlab.report.text.columns import Column
from gptlab.report.text.numbers import fixed, interval, places, signed
from gptlab.report.text.view import View

REACH = 4
"""An interval that goes so many times as far as the usual one is cut, so that it does not squeeze the others."""


@dataclass(frozen=True)
class Forest:
    """From `low` at the first character's middle to `high` at the last one's; `delta` shades both sides of zero."""

    low: float
    high: float
    width: int
    delta: float

    def at(self, number: float) -> int:
        """The character where a number stands, beyond the edges too."""
        return round((number - self.low) / (self.high - self.low) * (self.width - 1))

    def line(self, point: float | None = None, low: float | None = None, high: float | None = None) -> str:
        """One arm; the baseline without a point; one seed has a point without an interval."""
        cells = [" "] * self.width
        for place in range(max(0, self.at(-self.delta)), min(self.width - 1, self.at(self.delta)) + 1):
            cells[place] = "░"
        zero = self.at(0)
        cells[zero] = "│"
        if point is None:
            return "".join(cells)
        first, last = (self.at(point if end is None else end) for end in (low, high))
        for place in range(max(first, 0), min(last, self.width - 1) + 1):
            cells[place] = "┼" if place == zero else "─"
        for place, end in ((first, "├"), (last, "┤"), (self.at(point), "●")):
            if 0 <= place < self.width:
                cells[place] = end
        if first < 0:
            cells[0] = "◀"
        if last >= self.width:
            cells[-1] = "▶"
        return "".join(cells)

    def scale(self) -> str:
        """The numbers at the edges, and zero."""
        decimals = places((self.high - self.low) / 8)
        left, right = signed(self.low, decimals), signed(self.high, decimals)
        cells = [*left, *" " * (self.width - len(left) - len(right)), *right]
        zero = self.at(0)
        if all(0 <= place < self.width and cells[place] == " " for place in range(zero - 1, zero + 2)):
            cells[zero] = "0"
        return "".join(cells)


def forest(extents: list[tuple[float, float]], delta: float, width: int) -> Forest:
    """A plot that holds these intervals, zero and the margin; those that go far beyond the usual one are cut."""
    far = [max(abs(low), abs(high)) for low, high in extents]
    limit = REACH * max(statistics.median(far), delta) if far else delta
    low = max(-limit, min([-delta, *(low for low, _ in extents)]))
    high = min(limit, max([delta, *(high for _, high in extents)]))
    return Forest(low, high, width, delta) if low < high else Forest(-1.0, 1.0, width, delta)


def plotted(view: View, width: int) -> Column:
    """The plot of a table's rows, its scale as the head."""
    ends = {arm: interval(one) for arm, one in view.contrasts.items()}
    points = [(one.difference, one.difference) for one in view.contrasts.values()]
    plot = forest(
        [found or point for found, point in zip(ends.values(), points, strict=True)], view.comparison.delta, width
    )
    lines = []
    for arm in view.order:
        one = view.contrasts.get(arm)
        blank = one is None and arm != view.comparison.baseline
        lines.append(" " * width if blank else plot.line(one.difference, *(ends[arm] or ())) if one else plot.line())
    return Column(plot.scale(), lines, left=True, coloured="[├─┼●┤◀▶]+")


def legended(view: View, plot: Column) -> str:
    """What the characters mean."""
    margin = fixed(view.comparison.delta, places(view.comparison.delta))
    cut = "   ◀ ▶ goes on beyond" if any(mark in cell for cell in plot.cells for mark in "◀▶") else ""
    point = "├─●─┤ 95 % interval" if any("─" in cell for cell in plot.cells) else "● one seed, no interval"
    return f"{point}   ░ within {margin}: equivalent{cut}"
