"""Tables as columns of plain text, for the terminal, Markdown and LaTeX. Empty columns are dropped."""

from dataclasses import dataclass

from gptlab.report.text.looks import describe_look
from gptlab.report.text.numbers import (
    align_decimal_points,
    choose_decimals,
    count_decimals,
    format_fixed,
    format_p_value,
    format_signed,
    get_interval,
)
from gptlab.report.text.view import View, pluralize
from gptlab.stats.results import ComputeValue, Contrast, Tuning


@dataclass(frozen=True)
class Column:
    """A head of one or two lines, and a cell for each arm.

    left            whether cells are aligned to the left
    colour_pattern  regular expression of the characters that take the verdict's colour; the others are dimmed
    is_weak         whether all of it is greyed out: a downstream task with too little signal for its noise
    """

    head: str
    cells: list[str]
    left: bool = False
    colour_pattern: str = ""
    is_weak: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether all cells are blank."""
        return not any(cell.strip() for cell in self.cells)


def drop_empty_columns(columns: list[Column]) -> list[Column]:
    """Return the columns that have some cell."""
    return [column for column in columns if not column.is_empty]


# -- the metric that decides


def build_main_columns(view: View) -> list[Column]:
    """Return the table of the metric that decides: baseline first, then by difference."""
    comparison, order, contrasts = view.comparison, view.order, view.contrasts
    delta, baseline = comparison.delta, comparison.baseline
    rows = {row.arm: row for row in comparison.arms}
    decimals = {arm: choose_decimals(contrast, delta) for arm, contrast in contrasts.items()}
    # the baseline shows as many digits as the arm that is known best
    decimals[baseline] = max(decimals.values(), default=count_decimals(delta))
    means, p_values, seeds, verdicts = [], [], [], []
    for arm in order:
        row, contrast = rows[arm], contrasts.get(arm)
        means.append("" if row.mean is None else format_fixed(row.mean, decimals.get(arm, count_decimals(delta))))
        p_values.append(format_p_value(contrast.p_holm) if contrast and get_interval(contrast) else "")
        seeds.append(f"{row.finished}/{row.finished + row.diverged + row.failed}")
        verdicts.append(view.label_verdict(arm))
    columns = [
        build_name_column(view),
        Column(comparison.metric.name, align_decimal_points(means)),
        *build_difference_columns([*map(contrasts.get, order)], delta),
        # of one comparison Holm's correction is none
        Column("p (Holm)" if len(contrasts) > 1 else "p", align_decimal_points(p_values)),
        # the caption has the number of seeds where all arms have the same
        Column("seeds", seeds if len({*seeds}) > 1 else [""] * len(order)),
        *_build_compute_columns(view.stratum.exchange, order),
        Column("verdict", verdicts, left=True, colour_pattern=".+"),
    ]
    return drop_empty_columns(columns)


def build_name_column(view: View) -> Column:
    """Return the arms by their short names, under the axis that they are on."""
    return Column(view.axis or "arm", [view.names[arm] for arm in view.order], left=True)


def describe_main_table(view: View) -> str:
    """Return the caption of the main table: metric, unit, direction, baseline, seeds, variance, look."""
    comparison, baseline = view.comparison, view.comparison.baseline
    counts = {len(contrast.seeds) for contrast in comparison.contrasts}
    if not counts:  # of a study of one arm there are no paired seeds
        counts = {row.finished for row in comparison.arms}
    seeds = f", {pluralize(counts.pop(), 'seed')}" if len(counts) == 1 else ""
    variance = f", {comparison.variance} variance" if comparison.variance != "none" else ""
    metric = comparison.metric
    reference = view.short_name(baseline) if view.axis else baseline
    look = f"; {describe_look(comparison.look)}" if comparison.look else ""
    return f"{metric.name} in {metric.unit}, {metric.better} is better; against {reference}{seeds}{variance}{look}"


def build_difference_columns(contrasts: list[Contrast | None], delta: float) -> list[Column]:
    """Return the columns of differences and their 95 % intervals, each row with its own digits."""
    differences: list[str] = []
    intervals: list[tuple[float, float, int] | None] = []
    for contrast in contrasts:
        if contrast is None:
            differences.append("")
            intervals.append(None)
            continue
        decimals, ends = choose_decimals(contrast, delta), get_interval(contrast)
        differences.append(format_signed(contrast.difference, decimals))
        intervals.append((*ends, decimals) if ends else None)
    return [
        Column("difference", align_decimal_points(differences)),
        Column("95 % interval", format_intervals(intervals)),
    ]


def format_intervals(intervals: list[tuple[float, float, int] | None]) -> list[str]:
    """Return intervals (low, high, decimals) as texts of one width; None gives a blank."""
    texts = []
    for interval in intervals:
        if interval is None:
            texts.append("")
        else:
            low, high, decimals = interval
            texts.append(f"[{format_signed(low, decimals)}, {format_signed(high, decimals)}]")
    # right-aligned, so that the closing brackets stand below each other
    width = max(map(len, texts), default=0)
    return [text.rjust(width) for text in texts]


def build_noise_columns(view: View) -> list[Column]:
    """Return each arm's SD over seeds, and the SD of its difference from the baseline: its own, and the one used."""
    rows = {row.arm: row for row in view.comparison.arms}
    cells = []
    for arm in view.order:
        contrast, over_seeds = view.contrasts.get(arm), _format_sd(rows[arm].sd)
        if contrast is None or get_interval(contrast) is None:
            # without an interval the SD would be a 0 that nobody has measured
            cells.append((over_seeds, "", "", ""))
        else:
            of_difference = (_format_sd(contrast.own_sd), _format_sd(contrast.sd), f"{contrast.df:.1f}")
            cells.append((over_seeds, *of_difference))
    over_seeds, own, used, df = zip(*cells, strict=True)
    columns = [
        build_name_column(view),
        Column("SD\nover seeds", align_decimal_points(over_seeds)),
        Column("own SD\nof difference", align_decimal_points(own)),
        Column("SD used", align_decimal_points(used)),
        Column("degrees of\nfreedom", align_decimal_points(df)),
    ]
    return drop_empty_columns(columns)


def _format_sd(sd: float | None) -> str:
    return "" if sd is None else f"{sd:.2g}"


def build_pair_columns(view: View) -> list[Column]:
    """Return the table of all pairs of arms, where they were compared."""
    pairs = view.comparison.pairs
    names, p_values, verdicts = [], [], []
    for pair in pairs:
        names.append(f"{view.short_name(pair.arm)} less {view.short_name(pair.against)}")
        p_values.append(format_p_value(pair.p_holm))
        verdicts.append(pair.verdict)
    return [
        Column("pair", names, left=True),
        *build_difference_columns([*pairs], view.comparison.delta),
        Column("p (Holm)", align_decimal_points(p_values)),
        Column("verdict", verdicts, left=True),
    ]


def _build_compute_columns(exchange: ComputeValue | None, order: list[str]) -> list[Column]:
    """Return the columns of the arms' compute equivalents, and of their differences net of speed."""
    if exchange is None:
        return []
    factors, net_differences = [], []
    for arm in order:
        # either may be missing: beyond the budgets that were run, or not timed
        factor, net = exchange.equivalents.get(arm), exchange.net.get(arm)
        factors.append(f"{format_fixed(factor[0], _count_interval_decimals(factor))}x" if factor else "")
        net_differences.append(format_signed(net[0], _count_interval_decimals(net)) if net else "")
    return [
        Column("worth\ncompute", align_decimal_points(factors)),
        Column("net of\nspeed", align_decimal_points(net_differences)),
    ]


def _count_interval_decimals(estimate: tuple[float, float, float]) -> int:
    _, low, high = estimate
    return count_decimals((high - low) / 2)


def build_tuning_columns(view: View) -> list[Column]:
    """Return the mean loss over the grid of learning rates, an arm a row; a star marks the best."""
    tunings = view.tunings
    rates: set[float] = set()
    for tuning in tunings:
        rates |= {*tuning.losses}
    decimals = count_decimals(view.comparison.delta)
    columns = [Column(view.axis or "arm", [view.short_name(tuning.arm) for tuning in tunings], left=True)]
    for rate in sorted(rates):
        cells = [_format_tuned_loss(tuning, rate, decimals) for tuning in tunings]
        columns.append(Column(f"{rate:g}", cells))
    return columns


def _format_tuned_loss(tuning: Tuning, rate: float, decimals: int) -> str:
    mark = "*" if rate == tuning.best else " "
    # the grid grows for the arms that were best at an edge, so that rows differ
    if rate not in tuning.losses:
        return mark
    loss = tuning.losses[rate]
    return f"{'diverged' if loss is None else format_fixed(loss, decimals)}{mark}"
