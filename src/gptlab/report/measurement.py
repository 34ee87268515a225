"""The report of a study that trained nothing: its answer, tables, ratios of times, and every number as bars."""

from gptlab.report.figures.curves import are_size_points, draw_size_curves
from gptlab.report.figures.parts import assign_colours, make_axis, make_error_bars, make_margin
from gptlab.report.figures.slopes import draw_slopes
from gptlab.report.model import Code, Figure, Report, Sections, Table, Words
from gptlab.report.text.columns import Column
from gptlab.report.text.markup import Sentence, bold, escape, parse_sentence
from gptlab.report.text.view import build_command
from gptlab.stats.measurements import Measurements, describe_clocks, format_tables, judge_coordinates
from gptlab.stats.results import Timing

MAX_DRAWN = 12
"""Metrics that are drawn, and arms whose ratios are."""
CAPTIONS = ("A mean over blocks; times are medians over rounds", "Of what is above; a mean over blocks")


def build_measurement_report(measurements: Measurements) -> Report:
    """Return the report of a whole study."""
    plan, timings = measurements.plan, measurements.timings
    command = build_command(plan)
    sections = Sections()
    sections.add("question", "Question", Words(_describe_question(measurements)))
    figures = draw_size_curves(measurements, {timing.metric.name: timing.medians for timing in timings})
    ratios = [draw_ratios(timing) for timing in timings if len(timing.ratios) <= MAX_DRAWN]
    results = [*draw_slopes(measurements), *_build_tables(measurements), *figures, *ratios]
    sections.add("results", "Results", *results)
    # of a study with study.follow_up: the same arms, trained
    sections.add("after", "Trained anew", Words(measurements.after))
    sections.add("floor", "What the clock can tell", Words(describe_clocks(measurements)))
    sections.add("where", "Every number", *_draw_numbers(measurements))
    sections.add("again", "To do it again", Code("The same study goes on where it stands:", command))
    sections.add("raw", "Raw numbers", Words(["Every round of every block: results.csv."]))
    return Report(
        title=measurements.study,
        line=_describe_kind(measurements),
        answers={"": Words(summarize_measurements(measurements))},
        sections=sections.sections,
        command=command,
    )


def _describe_kind(measurements: Measurements) -> str:
    knobs = measurements.plan.knobs or {}
    if measurements.plan.kind == "coordinate_check":
        return f"Activations over sizes, before and after {knobs['steps']} steps from {knobs['draws']} draws."
    return f"{len(measurements.arms)} arms measured together, nothing was trained."


def _describe_question(measurements: Measurements) -> list[str]:
    plan = measurements.plan
    axes = [f"{axis}: {', '.join(map(str, values))}" for axis, values in plan.axes.items()]
    blocks = ", ".join(map(str, sorted({row.block for row in measurements.rows})))
    return [*axes, f"study={plan.kind}, blocks of seed {blocks}"]


def _build_tables(measurements: Measurements) -> list[Table]:
    tables = []
    # there is no second table where every arm is timed
    for (heads, lines), caption in zip(format_tables(measurements), CAPTIONS, strict=False):
        columns = []
        for number, head in enumerate(heads):
            columns.append(Column(head, [line[number] for line in lines], left=number == 0))
        tables.append(Table(caption, columns))
    return tables


def _draw_numbers(measurements: Measurements) -> list[Figure]:
    """Draw each metric in which arms differ: over sizes where all arms are points of sizes, else as bars."""
    over_sizes, as_bars = {}, {}
    for metric, numbers in measurements.values.items():
        # slopes are drawn with their intervals
        is_slope = measurements.plan.kind == "coordinate_check" and metric.endswith((" of change", " of size"))
        if is_slope or len({*numbers.values()}) < 2:
            continue
        # bars of 300 lengths show nothing that a line does not show better
        if are_size_points(measurements, numbers):
            over_sizes[metric] = numbers
        else:
            as_bars[metric] = numbers
    bars = [draw_bars(measurements, metric, numbers) for metric, numbers in [*as_bars.items()][:MAX_DRAWN]]
    return [*draw_size_curves(measurements, over_sizes), *bars]


def summarize_measurements(measurements: Measurements) -> list[Sentence]:
    """Return sentences on the coordinates that were judged, and on times beyond the spread of the clock."""
    sentences = [parse_sentence(line) for line in judge_coordinates(measurements)]
    for timing in measurements.timings:
        sentences += _describe_timing(timing, measurements.baseline)
    if sentences:
        return sentences
    numbers, arms = len(measurements.values), len(measurements.arms)
    return [parse_sentence(f"{numbers} numbers of {arms} arms; the table has them.")]


def _describe_timing(timing: Timing, baseline: str) -> list[Sentence]:
    """Return sentences on the arms that were clearly faster, clearly slower, and neither."""
    metric = escape(timing.metric.name)
    sentences = []
    for verdict, adjective in (("better", "faster"), ("worse", "slower")):
        arms = [arm for arm in timing.ratios if timing.verdicts.get(arm) == verdict]
        if arms:
            # the one that is farthest from the baseline; equal ratios by name
            ranked = sorted((timing.ratios[arm][0], arm) for arm in arms)
            ratio, arm = ranked[0] if verdict == "better" else ranked[-1]
            more = f", and {len(arms) - 1} more" if len(arms) > 1 else ""
            sentences.append(
                parse_sentence(
                    f"{metric}: {bold(arm)} is {adjective} than {bold(baseline)}: {ratio:.3g} of its time{more}."
                )
            )
    same = [arm for arm, verdict in timing.verdicts.items() if verdict not in ("better", "worse") and arm != baseline]
    if same:
        arms = escape(", ".join(same))
        sentences.append(parse_sentence(f"{metric}: the clock does not tell {arms} from the baseline."))
    return sentences


def draw_ratios(timing: Timing) -> Figure | None:
    """Draw times over the baseline's with 95 % intervals; a band shows how the baseline differs from itself."""
    arms = [*reversed(timing.ratios)]  # plotly's y axis goes upwards
    if not arms:
        return None
    colours = assign_colours(arms)
    ratios, lows, highs = zip(*(timing.ratios[arm] for arm in arms), strict=True)
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": [*ratios],
        "y": arms,
        "marker": {"size": 10, "color": [colours[arm] for arm in arms]},
        "error_x": make_error_bars(ratios, lows, highs),
    }
    sentences, rows = [], []
    for arm in arms:
        ratio, low, high = timing.ratios[arm]
        sentences.append(f"{arm} {ratio:.3f} ({low:.3f} to {high:.3f})")
        rows.append((arm, timing.medians.get(arm), ratio, low, high, timing.verdicts.get(arm)))
    return Figure(
        title=f"{timing.metric.name}, over the baseline's",
        data=[trace],
        layout={
            # twice as slow and twice as fast are equally far from 1
            "xaxis": make_axis("time over the baseline's", type="log"),
            "height": 130 + 34 * len(arms),
            "shapes": [make_margin(1 - timing.spread, 1 + timing.spread)],
        },
        alt="; ".join(sentences),
        heads=("arm", "median", "ratio", "low", "high", "verdict"),
        rows=rows,
        note="The shaded band is what the baseline differs from itself.",
    )


def draw_bars(measurements: Measurements, metric: str, numbers: dict[str, float]) -> Figure:
    """Draw one number of every arm."""
    numbers = {arm: numbers[arm] for arm in measurements.arms if arm in numbers}  # in the order of the arms
    colours = assign_colours([*numbers])
    trace = {
        "type": "bar",
        "x": [*numbers],
        "y": [*numbers.values()],
        "marker": {"color": [*colours.values()]},
    }
    return Figure(
        title=metric,
        data=[trace],
        layout={"yaxis": make_axis(metric), "height": 300, "showlegend": False},
        alt="; ".join(f"{arm} {number:.4g}" for arm, number in numbers.items()),
        heads=("arm", metric),
        rows=[*numbers.items()],
    )
