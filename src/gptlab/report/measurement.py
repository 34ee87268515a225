"""A study that trained nothing as a report: its answer, its table, ratios of times with what the clock can tell, and
every number as bars."""

from gptlab.report.figures.curves import curves, over_sizes
from gptlab.report.figures.study import GREY, painted, titled
from gptlab.report.model import Code, Figure, Report, Sections, Table, Words
from gptlab.report.text.columns import Column
from gptlab.report.text.view import Sentence, Strong, command, said
from gptlab.stats.measurements import Measurements, describe_clocks, format_tables
from gptlab.stats.results import Timing

MOST = 12
"""Metrics that are drawn, and arms whose ratios are."""
CAPTIONS = ("A mean over blocks; times are medians over rounds", "Of what is above; a mean over blocks")


def report(found: Measurements) -> Report:
    """The whole study."""
    made = Sections()
    axes = found.asked.get("axes", {})
    asked = [f"{axis}: {', '.join(map(str, values))}" for axis, values in axes.items()]
    made.add(
        "question", "Question", Words([*asked, f"study={found.asked.get('kind', '')}, blocks of seed {_blocks(found)}"])
    )
    shown = [
        Table(caption, [Column(head, [line[at] for line in lines], left=not at) for at, head in enumerate(heads)])
        for (heads, lines), caption in zip(format_tables(found), CAPTIONS, strict=False)
    ]
    made.add(
        "results",
        "Results",
        *shown,
        *curves({one.metric.name: one.medians for one in found.timings}),
        *(ratios(one) for one in found.timings if len(one.ratios) <= MOST),
    )
    made.add("after", "Trained anew", Words(found.after))
    made.add("floor", "What the clock can tell", Words(describe_clocks(found)))
    drawn = {key: one for key, one in found.values.items() if len({*one.values()}) > 1}
    lines = {key: one for key, one in drawn.items() if over_sizes(one)}
    rest = {key: one for key, one in drawn.items() if key not in lines}
    made.add("where", "Every number", *curves(lines), *(bars(found, key, one) for key, one in [*rest.items()][:MOST]))
    made.add("again", "To do it again", Code("The same study goes on where it stands:", command(found.asked)))
    made.add("raw", "Raw numbers", Words(["Every round of every block: results.csv."]))
    line = f"{len(found.arms)} arms measured together, nothing was trained."
    return Report(found.study, line, {"": Words(answer(found))}, made.found, command(found.asked))


def answer(found: Measurements) -> list[Sentence]:
    """What was faster and what slower than the baseline, beyond the clock's own doubt."""
    told = []
    for one in found.timings:
        for verdict, word in (("better", "faster"), ("worse", "slower")):
            arms = sorted(
                (one.ratios[arm][0], arm) for arm, what in one.verdicts.items() if what == verdict and arm in one.ratios
            )
            if arms:
                ratio, arm = arms[0] if verdict == "better" else arms[-1]
                rest = f", and {len(arms) - 1} more" if len(arms) > 1 else ""
                parts = [f"{one.metric.name}: ", Strong(arm), f" is {word} than ", Strong(found.baseline)]
                told.append(said(*parts, f": {ratio:.3g} of its time{rest}."))
        same = [arm for arm, what in one.verdicts.items() if what not in ("better", "worse") and arm != found.baseline]
        told += (
            [said(f"{one.metric.name}: the clock does not tell {', '.join(same)} from the baseline.")] if same else []
        )
    return told or [said(f"{len(found.values)} numbers of {len(found.arms)} arms; the table has them.")]


def ratios(one: Timing) -> Figure | None:
    """Times over the baseline's, with 95 % intervals; the band is what the baseline differs from itself."""
    arms = [*reversed(one.ratios)]
    if not arms:
        return None
    values = [one.ratios[arm] for arm in arms]
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": [value[0] for value in values],
        "y": arms,
        "marker": {"size": 10, "color": [painted(arms)[arm] for arm in arms]},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "color": GREY,
            "array": [value[2] - value[0] for value in values],
            "arrayminus": [value[0] - value[1] for value in values],
        },
    }
    band = {"type": "rect", "xref": "x", "yref": "paper", "x0": 1 - one.spread, "x1": 1 + one.spread, "y0": 0, "y1": 1}
    layout = {
        "xaxis": titled("time over the baseline's", type="log"),
        "height": 130 + 34 * len(arms),
        "shapes": [{**band, "fillcolor": GREY, "opacity": 0.18, "line": {"width": 0}}],
    }
    rows = [(arm, one.medians.get(arm), *one.ratios[arm], one.verdicts.get(arm)) for arm in arms]
    alt = "; ".join(
        f"{arm} {value[0]:.3f} ({value[1]:.3f} to {value[2]:.3f})" for arm, value in zip(arms, values, strict=True)
    )
    heads = ("arm", "median", "ratio", "low", "high", "verdict")
    note = "The shaded band is what the baseline differs from itself."
    return Figure(f"{one.metric.name}, over the baseline's", [trace], layout, alt, heads, rows, note)


def bars(found: Measurements, key: str, values: dict[str, float]) -> Figure:
    """One number of every arm."""
    arms = [arm for arm in found.arms if arm in values]
    colours = painted(arms)
    trace = {
        "type": "bar",
        "x": arms,
        "y": [values[arm] for arm in arms],
        "marker": {"color": [colours[arm] for arm in arms]},
    }
    alt = "; ".join(f"{arm} {values[arm]:.4g}" for arm in arms)
    rows = [(arm, values[arm]) for arm in arms]
    return Figure(key, [trace], {"yaxis": titled(key), "height": 300, "showlegend": False}, alt, ("arm", key), rows)


def _blocks(found: Measurements) -> str:
    return ", ".join(map(str, sorted({row.block for row in found.rows})))
