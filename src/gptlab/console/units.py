"""Numbers and paths for people: durations, sparklines, paths as they would be typed."""

from pathlib import Path

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 40
"""Bars of a sparkline."""


def draw_sparkline(values: list[float]) -> str:
    """Return numbers as a line of small bars."""
    if len(values) < 2:
        return ""
    if len(values) > WIDTH:  # picked, not averaged: the first and the last are shown
        values = [values[round(number * (len(values) - 1) / (WIDTH - 1))] for number in range(WIDTH)]
    low, high = min(values), max(values)
    # of numbers that are all alike the range is 0: the lowest bar for each
    return "".join(BARS[round((value - low) / ((high - low) or 1) * (len(BARS) - 1))] for value in values)


def format_duration(seconds: float) -> str:
    """Return seconds in words: 42 s, 3.5 min, 2.1 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def format_minutes(minutes: float) -> str:
    """Return minutes in words."""
    if minutes < 1.5:
        return f"{max(1, round(60 * minutes))} s"
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"


def format_two_digits(number: float) -> str:
    """Return a number with two digits, or whole where that has more: 0.02, 1.5, 27, 1,280."""
    return f"{number:,.0f}" if number >= 99.5 else f"{number:.2g}"


def relative_to_cwd(path: Path) -> Path:
    """Return a path as one would type it in the current directory."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
