"""A forest plot in characters: a line for each arm, its difference and 95 % interval, zero, and the margin.

├───●───┤   │░░           interval and point; zero; the margin of equivalence, shaded
◀           ▶             goes on beyond the edge
"""

import statistics
from dataclasses import dataclass

from gptlab.report.text.columns import Column
from gptlab.report.text.numbers import count_decimals, format_fixed, format_signed, get_interval
from gptlab.report.text.view import View

REACH = 4
"""An interval that goes so many times as far as the usual one is cut, so that it does not squeeze the others."""


@dataclass(frozen=True)
class ForestPlot:
    """The scale of a plot, in the unit of the metric: `low` at the middle of the first character, `high` of the last.

    `delta`, the margin of equivalence, is shaded on both sides of zero.
    """

    low: float
    high: float
    width: int
    delta: float

    def find_column(self, number: float) -> int:
        """Return the character where a number stands; below 0 or from `width` on where it lies beyond an edge."""
        return round((number - self.low) / (self.high - self.low) * (self.width - 1))

    def draw_row(self, point: float | None = None, low: float | None = None, high: float | None = None) -> str:
        """Draw one arm: the baseline without a point; one seed with a point but no interval."""
        cells = [" "] * self.width
        shaded = range(max(0, self.find_column(-self.delta)), min(self.width - 1, self.find_column(self.delta)) + 1)
        for column in shaded:
            cells[column] = "░"
        zero = self.find_column(0)
        cells[zero] = "│"
        if point is None:
            return "".join(cells)
        first, last = (self.find_column(point if end is None else end) for end in (low, high))
        for column in range(max(first, 0), min(last, self.width - 1) + 1):
            cells[column] = "┼" if column == zero else "─"
        for column, mark in ((first, "├"), (last, "┤"), (self.find_column(point), "●")):
            if 0 <= column < self.width:
                cells[column] = mark
        # arrows last: they replace what stands at the edge
        if first < 0:
            cells[0] = "◀"
        if last >= self.width:
            cells[-1] = "▶"
        return "".join(cells)

    def draw_scale(self) -> str:
        """Draw the numbers at the edges, and zero where there is room."""
        # an eighth of the scale: numbers at its edges need no more
        decimals = count_decimals((self.high - self.low) / 8)
        left, right = format_signed(self.low, decimals), format_signed(self.high, decimals)
        cells = [*left, *" " * (self.width - len(left) - len(right)), *right]
        zero = self.find_column(0)
        # with a blank on each side, or it would read as a digit of its neighbour
        if all(0 <= column < self.width and cells[column] == " " for column in range(zero - 1, zero + 2)):
            cells[zero] = "0"
        return "".join(cells)


def fit_forest_plot(intervals: list[tuple[float, float]], delta: float, width: int) -> ForestPlot:
    """Return a plot that holds these intervals, zero and the margin; those far beyond the usual one are cut."""
    # the median: one arm that is far off must not set the scale
    reaches = [max(abs(low), abs(high)) for low, high in intervals]
    limit = REACH * max(statistics.median(reaches), delta) if reaches else delta
    # the margin is always within the plot: it is what the intervals are read against
    low = max(-limit, min([-delta, *(low for low, _ in intervals)]))
    high = min(limit, max([delta, *(high for _, high in intervals)]))
    return ForestPlot(low, high, width, delta) if low < high else ForestPlot(-1.0, 1.0, width, delta)


def render_forest_plot(view: View, width: int) -> Column:
    """Return the plot of a table's rows as a column, its scale as the head."""
    intervals = {arm: get_interval(contrast) for arm, contrast in view.contrasts.items()}
    extents = []
    for arm, contrast in view.contrasts.items():
        extents.append(intervals[arm] or (contrast.difference, contrast.difference))
    plot = fit_forest_plot(extents, view.comparison.delta, width)
    rows = []
    for arm in view.order:
        contrast = view.contrasts.get(arm)
        if contrast:
            rows.append(plot.draw_row(contrast.difference, *(intervals[arm] or ())))
        else:  # an arm that could not be compared has a blank row
            rows.append(plot.draw_row() if arm == view.comparison.baseline else " " * width)
    return Column(plot.draw_scale(), rows, left=True, colour_pattern="[├─┼●┤◀▶]+")


def render_legend(view: View, plot: Column) -> str:
    """Return a line that explains the characters of a plot."""
    characters = {*"".join(plot.cells)}
    margin = format_fixed(view.comparison.delta, count_decimals(view.comparison.delta))
    arrows = "   ◀ ▶ goes on beyond" if characters & {*"◀▶"} else ""
    point = "├─●─┤ 95 % interval" if "─" in characters else "● no interval"
    return f"{point}   ░ within {margin}: equivalent{arrows}"
