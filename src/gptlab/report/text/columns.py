"""The tables as columns of plain text, for the terminal, Markdown, LaTeX. One that says nothing is left out."""

from dataclasses import dataclass, replace

from gptlab.report.text.numbers import aligned, chance, fixed, interval, percent, places, signed, supported, value
from gptlab.report.text.view import MARKS, View, plural
from gptlab.stats.results import STEP, WRITE, Comparison, ComputeValue, Contrast, Metric, Timing, Tuning

LAST = ("memory/peak_bytes", "cache_bytes_per_token", "params", "flops_per_token")
"""Costs that stand behind the times."""


@dataclass(frozen=True)
class Column:
    """A head of one or two lines, and a cell an arm. `coloured`: which characters take the verdict's colour, a pattern;
    the others step back."""

    head: str
    cells: list[str]
    left: bool = False
    coloured: str = ""

    @property
    def empty(self) -> bool:
        """True where it says nothing of any arm."""
        return not any(cell.strip() for cell in self.cells)


def kept(columns: list[Column]) -> list[Column]:
    """Those that say something."""
    return [one for one in columns if not one.empty]


def spans(ends: list[tuple[float, float, int] | None]) -> list[str]:
    """Intervals, each with its decimals."""
    texts = [f"[{signed(end[0], end[2])}, {signed(end[1], end[2])}]" if end else "" for end in ends]
    return [text.rjust(max(map(len, texts))) for text in texts]


def main(view: View) -> list[Column]:
    """The metric that decides: baseline first, then by difference."""
    one, order, found = view.comparison, view.order, view.contrasts
    means = {row.arm: row for row in one.arms}
    decimals = {arm: supported(contrast, one.delta) for arm, contrast in found.items()}
    decimals[one.baseline] = max(decimals.values(), default=places(one.delta))
    losses = ["" if (m := means[arm].mean) is None else fixed(m, decimals.get(arm, places(one.delta))) for arm in order]
    many = {arm: f"{row.finished}/{row.finished + row.diverged + row.failed}" for arm, row in means.items()}
    tested = [found[arm] if arm in found and interval(found[arm]) else None for arm in order]
    columns = [
        Column(view.axis or "arm", [view.names[arm] for arm in order], left=True),
        Column(one.metric.name, aligned(losses)),
        *differences([found.get(arm) for arm in order], one.delta),
        Column("p (Holm)" if len(found) > 1 else "p", aligned(chance(two.p_holm) if two else "" for two in tested)),
        Column("seeds", [many[arm] for arm in order] if len({*many.values()}) > 1 else [""] * len(order)),
        *_exchanged(view.stratum.exchange, order),
        Column("verdict", [view.verdict(arm) for arm in order], left=True, coloured=".+"),
    ]
    return kept(columns)


def heading(view: View) -> str:
    """What the table is of."""
    one, base = view.comparison, view.comparison.baseline
    seeds = {len(two.seeds) for two in one.contrasts} or {row.finished for row in one.arms}
    many = f", {plural(seeds.pop(), 'seed')}" if len(seeds) == 1 else ""
    pooled = f", {one.variance} variance" if one.variance != "none" else ""
    way = f"{one.metric.name} in {one.metric.unit}, {one.metric.better} is better"
    return f"{way}; against {view.name(base) if view.axis else base}{many}{pooled}"


def differences(contrasts: list[Contrast | None], delta: float) -> list[Column]:
    """Differences and their 95 % intervals, each with its own digits."""
    numbers = [signed(one.difference, supported(one, delta)) if one else "" for one in contrasts]
    ends = [(*both, supported(one, delta)) if one and (both := interval(one)) else None for one in contrasts]
    return [Column("difference", aligned(numbers)), Column("95 % interval", spans(ends))]


def pairs(view: View) -> list[Column]:
    """All arms with each other, where that was asked for."""
    one = view.comparison
    found: list[Contrast | None] = [*one.pairs]
    return [
        Column("pair", [f"{view.name(two.arm)} less {view.name(two.against)}" for two in one.pairs], left=True),
        *differences(found, one.delta),
        Column("p (Holm)", aligned(chance(two.p_holm) for two in one.pairs)),
        Column("verdict", [two.verdict for two in one.pairs], left=True),
    ]


def _exchanged(exchange: ComputeValue | None, order: list[str]) -> list[Column]:
    """What arms are worth in compute of the baseline, and what is left of a difference once speed is paid for."""
    if exchange is None:
        return []
    worth, net = ([found.get(arm) for arm in order] for found in (exchange.equivalents, exchange.net))
    factor = [f"{fixed(one[0], places((one[2] - one[1]) / 2))}x" if one else "" for one in worth]
    left = [signed(one[0], places((one[2] - one[1]) / 2)) if one else "" for one in net]
    return [Column("worth\ncompute", aligned(factor)), Column("net of\nspeed", aligned(left))]


def tuning(view: View) -> list[Column]:
    """Mean loss over the grid of learning rates, an arm a row; a star marks the best."""
    rows = view.tunings
    rates = sorted({rate for row in rows for rate in row.losses})
    decimals = places(view.comparison.delta)
    columns = [Column(view.axis or "arm", [view.name(row.arm) for row in rows], left=True)]
    for rate in rates:
        cells = [_at(row, rate, decimals) + ("*" if rate == row.best else " ") for row in rows]
        columns.append(Column(f"{rate:g}", cells))
    return columns


def _at(row: Tuning, rate: float, decimals: int) -> str:
    if rate not in row.losses:
        return ""
    loss = row.losses[rate]
    return "diverged" if loss is None else fixed(loss, decimals)


# -- the other metrics


def others(view: View) -> list[Column]:
    """Every other metric: its value, its change in percent, and the mark of its verdict."""
    if not (measured := [*view.others, *view.stratum.timings]):
        return []
    ranked = sorted(measured, key=_place)
    columns = [
        _compared(view, one) if isinstance(one, Comparison) else _timed(view, one) for one in ranked if not same(one)
    ]
    columns = kept(columns)
    names = Column(view.axis or "arm", [view.names[arm] for arm in view.order], left=True)
    filled = [row for row in range(len(names.cells)) if any(one.cells[row].strip() for one in columns)]
    return [replace(one, cells=[one.cells[row] for row in filled]) for one in (names, *columns)] if columns else []


def same(one: Comparison | Timing) -> bool:
    """True for a count that all arms share."""
    return isinstance(one, Comparison) and not one.metric.seeded and not any(two.difference for two in one.contrasts)


def shared(view: View) -> str:
    """The counts that all arms share, in words."""
    told = [
        f"{one.metric.name} {value(one.metric, mean)}{_after(one.metric)}"
        for one in sorted(view.others, key=_place)
        if same(one) and (mean := one.arms[0].mean) is not None
    ]
    return f"The same for all arms: {', '.join(told)}." if told else ""


def _place(one: Comparison | Timing) -> int:
    keys = (STEP.key, WRITE.key, *LAST)
    return keys.index(one.metric.key) + 1 if one.metric.key in keys else 0


def _after(metric: Metric) -> str:
    """A unit after its number: 4,096 bytes/token, 1.66 M/token."""
    unit = metric.unit.removeprefix(metric.name)
    return unit if unit.startswith("/") or not unit else f" {unit}"


def _compared(view: View, one: Comparison) -> Column:
    found = {two.arm: two for two in one.contrasts}
    halves = {arm: (ends[1] - ends[0]) / 2 for arm, two in found.items() if (ends := interval(two))}
    halves[one.baseline] = min(halves.values(), default=0.0)
    means = {row.arm: row.mean for row in one.arms}
    cells = []
    for arm in view.order:
        mean, two = means.get(arm), found.get(arm)
        plain = value(one.metric, mean, halves.get(arm, 0.0)) if mean is not None else ""
        if two is None or not two.against_mean or not two.difference:
            cells.append((plain, "", MARKS.get(two.verdict, "") if two and plain else ""))
            continue
        half = halves.get(arm, 0.0) / abs(two.against_mean)
        share = percent(two.mean / two.against_mean, half if one.metric.seeded and half else None)
        cells.append((plain, share, MARKS.get(two.verdict, "")))
    return _column(one.metric, cells)


def _timed(view: View, one: Timing) -> Column:
    cells = []
    for arm in view.order:
        plain = f"{one.medians[arm]:.3g}" if arm in one.medians else ""
        if arm == view.comparison.baseline or arm not in one.ratios:
            cells.append((plain, "", ""))
            continue
        ratio, low, high = one.ratios[arm]
        cells.append((plain, percent(ratio, (high - low) / 2), MARKS.get(one.verdicts.get(arm, ""), "")))
    return _column(one.metric, cells)


def _column(metric: Metric, cells: list[tuple[str, str, str]]) -> Column:
    values, shares = (aligned(cell[part] for cell in cells) for part in (0, 1))
    marks = [cell[2] or " " for cell in cells]
    unit = "" if metric.unit == metric.name else metric.unit
    return Column(f"{metric.name}\n{unit}".strip(), [" ".join(row) for row in zip(values, shares, marks, strict=True)])
