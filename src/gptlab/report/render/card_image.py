"""A study as one picture to share: its question, each arm's difference with its interval, its verdict, and the rule.

matplotlib draws it, which is no dependency: pip install 'gptlab[pictures]'. Names of arms are anybody's, so a dollar
sign is no formula.
"""

import textwrap
from pathlib import Path
from typing import Any

from gptlab.errors import Refused
from gptlab.report.figures.parts import GREY, make_difference_axis
from gptlab.report.text.columns import describe_main_table
from gptlab.report.text.numbers import choose_decimals, format_signed, get_interval
from gptlab.report.text.view import View, build_command, make_views, title_study
from gptlab.stats.results import Findings

INK, PAPER = "#1f2328", "#ffffff"
COLOURS = {
    "better": "#1a7f37",
    "worse": "#cf222e",
    "equivalent": "#57606a",
    "not resolved": "#9a6700",
    "unstable": "#8250df",
}
WIDTH = 12.0
"""Inches, of a hundred pixels each."""
MAX_ARMS, MAX_SIZES = 14, 3
"""That a picture has room for."""
ROW = 0.42
"""Inches of an arm."""
BETWEEN = 1.4
"""Inches of a size beside its arms: caption, axis and its title."""


def save_card_image(findings: Findings, path: Path) -> None:
    """Write the picture of a study as PNG, 1,200 pixels wide."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise Refused("a picture needs matplotlib: pip install 'gptlab[pictures]'") from error
    views = make_views(findings)[:MAX_SIZES]
    if not views:
        raise Refused(f"{findings.study} has no run that finished, so there is nothing to draw")
    rows = [min(len(view.order), MAX_ARMS + 1) for view in views]
    title = textwrap.fill(title_study(findings.plan), 78)
    head = 0.65 + 0.35 * len(title.splitlines())
    height = head + 0.45 + sum(ROW * count + BETWEEN for count in rows)
    # no pyplot: it would choose a backend, which may want a display
    figure: Any = Figure(figsize=(WIDTH, height), dpi=100, facecolor=PAPER)
    FigureCanvasAgg(figure)
    figure.text(0.03, 1 - 0.35 / height, title, size=17, weight="bold", color=INK, va="top", parse_math=False)
    top = height - head
    for view, count in zip(views, rows, strict=True):
        axes = figure.add_axes((0.24, (top - 0.5 - ROW * count) / height, 0.52, ROW * count / height))
        caption = textwrap.fill(_caption(view), 150)
        figure.text(0.03, (top - 0.05) / height, caption, size=9.5, color=GREY, va="top", parse_math=False)
        _draw_arms(axes, view)
        top -= ROW * count + BETWEEN
    command = build_command(findings.plan)
    foot = textwrap.shorten(f"{len(findings.runs)} runs: {command}", 130, placeholder=" ...")
    figure.text(0.03, 0.2 / height, foot, size=9.5, color=GREY, family="monospace", parse_math=False)
    figure.text(0.97, 0.2 / height, "gptlab", size=10, color=GREY, ha="right", weight="bold")
    figure.savefig(path, metadata={"Software": None})


def _caption(view: View) -> str:
    size = f"{view.stratum.size}: " if view.stratum.size else ""
    more = len(view.order) - MAX_ARMS - 1
    return f"{size}{describe_main_table(view)}{f'; {more} more arms are in the report' if more > 0 else ''}"


def _draw_arms(axes: Any, view: View) -> None:
    """Draw a row for each arm, the baseline first: name, difference with interval, verdict in words."""
    delta, baseline = view.comparison.delta, view.comparison.baseline
    arms = view.order[: MAX_ARMS + 1]
    axes.axvspan(-delta, delta, color=GREY, alpha=0.15, lw=0)
    axes.axvline(0, color=GREY, lw=1)
    for row, arm in enumerate(arms):
        contrast, verdict = view.contrasts.get(arm), view.label_verdict(arm)
        colour = COLOURS.get(view.get_verdict(arm), GREY)
        if contrast is not None and (ends := get_interval(contrast)) is not None:
            axes.plot(ends, (row, row), color=colour, lw=2.5, solid_capstyle="butt")
        words = verdict
        if contrast is not None:
            axes.plot(contrast.difference, row, "o", color=colour, ms=7)
            words = f"{format_signed(contrast.difference, choose_decimals(contrast, delta))}  {verdict}"
        weight = "bold" if arm == baseline else "normal"
        place = {"va": "center", "clip_on": False, "parse_math": False, "size": 11}
        name = textwrap.shorten(view.names[arm], 34, placeholder=" ...")
        axes.text(-0.02, row, name, transform=axes.get_yaxis_transform(), ha="right", color=INK, weight=weight, **place)
        axes.text(1.02, row, words, transform=axes.get_yaxis_transform(), color=colour, weight="bold", **place)
    axes.set_ylim(len(arms) - 0.5, -0.5)  # the first row at the top
    axes.set_yticks([])
    label = f"{make_difference_axis(view)['title']['text']}, 95 % intervals; shaded: too small to matter"
    axes.set_xlabel(label, color=INK, size=10, parse_math=False)
    axes.tick_params(colors=GREY, labelsize=9)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GREY)
