"""A study as one picture to share: its question, each arm's difference with its interval, its verdict, and the rule.

Pillow draws it in a tenth of a second of a core, where matplotlib took one with its import. Names of arms are
anybody's: what no font at hand can write stands as its escape.
"""

import io
import math
import textwrap
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from gptlab.errors import Refused
from gptlab.report.figures.parts import make_difference_axis
from gptlab.report.text.columns import describe_main_table
from gptlab.report.text.numbers import MINUS, choose_decimals, format_signed, get_interval
from gptlab.report.text.view import View, build_command, make_views, title_study
from gptlab.runs.record import write_atomically
from gptlab.stats.results import Findings

IMAGE_NAME = "report.png"
INK, PAPER, GREY, SHADE = "#1f2328", "#ffffff", "#6e7781", "#eceef0"
COLOURS = {
    "better": "#1a7f37",
    "worse": "#cf222e",
    "equivalent": "#57606a",
    "not resolved": "#9a6700",
    "unstable": "#8250df",
}
WIDTH, MARGIN, LEFT, RIGHT = 1200, 36, 330, 880
"""Pixels: of the picture, of its margin, and where the axis of differences begins and ends."""
SCALE = 2
"""Pixels drawn for each one kept, so that slanted edges are smooth."""
MAX_ARMS, MAX_SIZES = 14, 3
"""That a picture has room for."""
ROW, CAPTION, BETWEEN = 40, 44, 100
"""Pixels: of an arm, of the caption above a size's arms, and of the axis below them."""
FONTS = ("DejaVuSans.ttf", "Arial Unicode.ttf", "arial.ttf")
"""Fonts of many systems for what Pillow's own, which is ASCII, cannot write; the first one that is there."""


def save_card_image(findings: Findings, path: Path) -> None:
    """Write the picture of a study as PNG, 1,200 pixels wide."""
    views = make_views(findings)[:MAX_SIZES]
    if not views:
        raise Refused(f"{findings.study} has no run that finished, so there is nothing to draw")
    title = textwrap.wrap(title_study(findings.plan), 84)
    head = 40 + 32 * len(title)
    height = head + 60
    for view in views:
        height += CAPTION + ROW * len(_select_arms(view)) + BETWEEN
    canvas = Canvas(height)
    for number, line in enumerate(title):
        canvas.write((MARGIN, 44 + 32 * number), line, 24, INK, bold=True)
    top = head
    for view in views:
        canvas.write((MARGIN, top + 20), _caption(view), 14, GREY)
        _draw_arms(canvas, view, top + CAPTION)
        top += CAPTION + ROW * len(_select_arms(view)) + BETWEEN
    foot = textwrap.shorten(f"{len(findings.runs)} runs: {build_command(findings.plan)}", 140, placeholder=" ...")
    canvas.write((MARGIN, height - 28), foot, 13, GREY)
    canvas.write((WIDTH - MARGIN, height - 28), "gptlab", 14, GREY, anchor="rm", bold=True)
    write_atomically(path, canvas.encode())


class Canvas:
    """A white picture; places and sizes are in pixels of what is saved."""

    def __init__(self, height: int) -> None:
        self.image = Image.new("RGB", (WIDTH * SCALE, height * SCALE), PAPER)
        self.draw = ImageDraw.Draw(self.image)

    def write(
        self, at: tuple[float, float], text: str, size: int, colour: str, *, anchor: str = "lm", bold: bool = False
    ) -> None:
        """Write a line of text; `anchor` is Pillow's: left, middle or right, and the middle of its height."""
        text, font = _choose_font(text, size * SCALE)
        weight = 0.025 * size * SCALE if bold else 0  # the font has one weight
        place = (at[0] * SCALE, at[1] * SCALE)
        self.draw.text(place, text, fill=colour, font=font, anchor=anchor, stroke_width=weight)

    def fill(self, corners: tuple[float, float, float, float], colour: str) -> None:
        """Fill a rectangle from its left upper to its right lower corner."""
        self.draw.rectangle([round(SCALE * corner) for corner in corners], fill=colour)

    def dot(self, x: float, y: float, colour: str) -> None:
        """Draw a mean."""
        self.draw.circle((x * SCALE, y * SCALE), 5 * SCALE, fill=colour)

    def encode(self) -> bytes:
        """Return the picture as PNG."""
        file = io.BytesIO()
        self.image.reduce(SCALE).save(file, "PNG")
        return file.getvalue()


@cache
def _load_font(size: int, name: str = "") -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.truetype(name, size) if name else ImageFont.load_default(size)


def _choose_font(text: str, size: int) -> tuple[str, ImageFont.FreeTypeFont | ImageFont.ImageFont]:
    """Return a text and the font that writes it: as it is, or with escapes where no font is found."""
    text = text.replace(MINUS, "-").replace("\n", " ")
    if text.isascii():
        return text, _load_font(size)
    for name in FONTS:
        try:
            return text, _load_font(size, name)
        except OSError:  # not on this system
            continue
    return text.encode("ascii", "backslashreplace").decode(), _load_font(size)


def _select_arms(view: View) -> list[str]:
    return view.order[: MAX_ARMS + 1]


def _caption(view: View) -> str:
    size = f"{view.stratum.size}: " if view.stratum.size else ""
    more = len(view.order) - len(_select_arms(view))
    caption = f"{size}{describe_main_table(view)}{f'; {more} more arms are in the report' if more else ''}"
    return textwrap.shorten(caption, 170, placeholder=" ...")


def _draw_arms(canvas: Canvas, view: View, top: int) -> None:
    """Draw a row for each arm, the baseline first: name, difference with interval, verdict in words; an axis below."""
    delta, arms = view.comparison.delta, _select_arms(view)
    bottom = top + ROW * len(arms)
    low, high = _find_range(view)
    per_unit = (RIGHT - LEFT) / (high - low)

    def place(value: float) -> float:
        return LEFT + (value - low) * per_unit

    canvas.fill((place(-delta), top, place(delta), bottom), SHADE)
    canvas.fill((place(0) - 0.5, top, place(0) + 0.5, bottom), GREY)
    for row, arm in enumerate(arms):
        y, words = top + ROW * (row + 0.5), view.label_verdict(arm)
        colour = COLOURS.get(view.get_verdict(arm), GREY)
        if contrast := view.contrasts.get(arm):
            if (ends := get_interval(contrast)) is not None:
                canvas.fill((place(ends[0]), y - 1.5, place(ends[1]), y + 1.5), colour)
            if math.isfinite(contrast.difference):
                canvas.dot(place(contrast.difference), y, colour)
            words = f"{format_signed(contrast.difference, choose_decimals(contrast, delta))}  {words}"
        name = textwrap.shorten(view.names[arm], 34, placeholder=" ...")
        is_baseline = arm == view.comparison.baseline
        canvas.write((LEFT - 16, y), name, 16, INK, anchor="rm", bold=is_baseline)
        canvas.write((RIGHT + 20, y), words, 16, colour, bold=True)
    canvas.fill((LEFT, bottom, RIGHT, bottom + 1), GREY)
    for value, label in _list_ticks(low, high):
        canvas.fill((place(value) - 0.5, bottom, place(value) + 0.5, bottom + 5), GREY)
        canvas.write((place(value), bottom + 15), label, 12, GREY, anchor="mm")
    label = f"{make_difference_axis(view)['title']['text']}, 95 % intervals; shaded: too small to matter"
    canvas.write(((LEFT + RIGHT) / 2, bottom + 40), label, 14, INK, anchor="mm")


def _find_range(view: View) -> tuple[float, float]:
    """Return the ends of the axis: all intervals, the margin and zero, and a little more."""
    delta = view.comparison.delta
    values = [-delta, delta, 0.0]
    for contrast in map(view.contrasts.get, _select_arms(view)):
        if contrast is not None and math.isfinite(contrast.difference):
            values += [contrast.difference, *(get_interval(contrast) or ())]
    low, high = min(values), max(values)
    room = 0.04 * (high - low) or 1.0  # nothing differs, and no margin
    return low - room, high + room


def _list_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Return four to ten round values of an axis, each with its label."""
    rough = (high - low) / 8
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    numbers = range(math.ceil(low / step), math.floor(high / step) + 1)
    return [(number * step, f"{number * step:.{decimals}f}") for number in numbers]
