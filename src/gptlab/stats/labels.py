"""Arms, their labels, and how a user refers to an arm."""

from collections.abc import Mapping
from typing import NamedTuple

from gptlab.errors import Refused

ArmValues = tuple[tuple[str, str], ...]
"""An arm: the (knob, value) pairs that its label shows; a word that is no knob's value is ("", word)."""


def label_arm(values: ArmValues) -> str:
    """Return an arm's label: "attention=gqa norm=layernorm"; "default" where nothing is changed."""
    return " ".join(label_value(knob, value) for knob, value in values) or "default"


def label_value(knob: str, value: str) -> str:
    """Return one part of a label."""
    return f"{knob}={value}" if knob else value


def read_label(label: str) -> ArmValues:
    """Return the arm of a label that comes from outside: a study's own arm, or one of an older study.json."""
    words = (word.partition("=") for word in label.split())
    return tuple((first, value) if separator else ("", first) for first, separator, value in words)


class SizePoint(NamedTuple):
    """A point of a curve over a size: which line it is of ("" where there is one), the size's name, its value."""

    line: str
    size: str
    value: float


def read_point(values: ArmValues) -> SizePoint | None:
    """Return the point of a curve that (knob, value) pairs are: the last knob's value is a number; None for others."""
    if not values:
        return None
    *before, (size, text) = values
    if not size or not text.replace(".", "", 1).isdecimal():
        return None
    line = label_arm(tuple(before)) if before else ""
    return SizePoint(line, size, float(text) if "." in text else int(text))


def find_arm(name: str, arms: Mapping[str, ArmValues]) -> str:
    """Return the label that is `name`, or the only one whose arm has all its values: gqa, or gqa,layernorm."""
    if name in arms:
        return name
    # baseline=gqa,layernorm names the values alone, as one speaks of an arm
    whole, words = {write_plainly(name)}, {*map(write_plainly, name.replace(",", " ").split())}
    known = {label: {*map(write_plainly, _list_words(values))} for label, values in arms.items()}
    # a list's value has commas of its own
    matches = [label for label in arms if whole <= known[label]] or [label for label in arms if words <= known[label]]
    if len(matches) != 1:
        problem = "is no arm of this study" if not matches else f"may be {' or '.join(matches)}"
        raise Refused(f"baseline={name} {problem}; arms: {', '.join(arms)}")
    return matches[0]


def write_plainly(word: str) -> str:
    """Return knob=value, or a value, in the one way in which numbers and truths are written: 2e-3 is 0.002."""
    knob, separator, value = word.rpartition("=")
    try:
        value = repr(float(value))
    except ValueError:
        value = TRUTHS.get(value.lower(), value)
    return f"{knob}{separator}{value}"


TRUTHS = {"true": "true", "false": "false", "null": "null", "none": "null"}


def _list_words(values: ArmValues) -> set[str]:
    """Return the words by which an arm can be called."""
    return {word for knob, value in values for word in (label_value(knob, value), value)}
