"""Axes to the arms that a study runs, and the arm at the centre of a design.

grid           all combinations
star           each axis alone about the baseline: the usual shape of an ablation
leave_one_out  the full stack, and the full stack less one change at a time
"""

from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import yaml

from gptlab.ablation.options import StudyOptions
from gptlab.config.hydra_messages import explain_unreadable_yaml
from gptlab.errors import Refused
from gptlab.stats.labels import ArmValues

Axes = dict[str, list[str]]
"""Knob or slot to its values, as on the command line."""
Arm = tuple[str, ...]
"""A value for each axis, in their order."""
BASELINE: ArmValues = (("", "baseline"),)
"""Name of the centre of a design over several axes, whose words would fill every table."""


def combine_axes(axes: Axes, design: str, defaults: dict[str, str]) -> list[Arm]:
    """Return the arms of a design, in the order that was asked.

    `defaults` is each axis where nothing is said; without it the first value asked for stands for the baseline.
    """
    # a value that was typed twice is one arm
    axes = {axis: list(dict.fromkeys(values)) for axis, values in axes.items()}
    if design == "grid":
        return list(product(*axes.values()))
    # the defaults, where they are among the values: what an ablation leaves out is then what the field has
    centre = tuple(defaults[axis] if defaults.get(axis) in values else values[0] for axis, values in axes.items())
    if design == "star":
        arms = [centre]
        for at, values in enumerate(axes.values()):
            arms += [replace_value(centre, at, value) for value in values]
        return list(dict.fromkeys(arms))  # each axis holds the centre's own value too
    unfit = [f"{axis}={','.join(values)}" for axis, values in axes.items() if len(values) != 2]
    if unfit:
        raise Refused(
            f"design=leave_one_out goes back from a change to what was, so an axis has two values; not {unfit[0]}"
        )
    full: Arm = ()  # every axis at its other value
    for values, before in zip(axes.values(), centre, strict=True):
        first, second = values
        full += (second if first == before else first,)
    return [full, *(replace_value(full, at, before) for at, before in enumerate(centre))]


def read_named_overrides(path: str, knob: str = "arms") -> dict[str, list[str]]:
    """Return the arms or tasks of a file, which maps names to lists of overrides: gated: [attention.gate=true]."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        arms, node = yaml.safe_load(text), yaml.compose(text)
    except yaml.YAMLError as error:
        raise Refused(f"{knob}={path}: {explain_unreadable_yaml(error)}") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8"
        raise Refused(f"{knob}={path} cannot be read: {reason}; give a YAML file of lists of overrides") from error
    example = "write a name and its overrides a line, as in gated: [attention.gate=true, clip=0.5]"
    if not isinstance(arms, dict) or not arms:
        raise Refused(f"{knob}={path} names none; {example}")
    if isinstance(node, yaml.MappingNode) and len(node.value) > len(arms):  # YAML would keep the last of them
        raise Refused(f"{knob}={path} has a name twice; give each its own")
    for name, words in arms.items():
        is_list = isinstance(words, list) and all(isinstance(word, str) and "=" in word for word in words)
        if not isinstance(name, str) or not name.strip() or not is_list:
            raise Refused(f"{knob}={path}: {name}: {words} is no list of overrides; {example}")
    return arms


def replace_value(arm: Arm, at: int, value: str) -> Arm:
    """Return an arm with one value exchanged."""
    return (*arm[:at], value, *arm[at + 1 :])


def choose_shown_values(axes: Axes, arm: Arm, centre: Arm = (), size: str = "") -> ArmValues:
    """Return the (knob, value) pairs that name an arm.

    In a design about a centre it is only what the arm changes there; of several axes the centre itself is "baseline".
    The axis that is a size is left out.
    """
    if arm == centre and len(axes) > 1:
        return BASELINE
    values = [(axis, value) for axis, value in zip(axes, arm, strict=True) if axis != size]
    changed = [pair for pair, value, default in zip(values, arm, centre, strict=False) if value != default]
    return tuple(changed or values)


@dataclass(frozen=True)
class ArmSpec:
    """An arm before it is composed: its values, its own overrides, and its size where sizes are compared apart."""

    values: ArmValues = ()
    words: list[str] = field(default_factory=list)
    size: str = ""


def specify_arms(axes: dict[str, list[str]], points: list[Arm], options: StudyOptions) -> list[ArmSpec]:
    """Return the arms of a design, whose first point is its centre."""
    has_centre = options.design != "grid"
    is_sized = "model" in axes and len(axes) > 1 and not has_centre and not options.tasks
    arms = []
    for point in points:
        words = [f"{axis}={value}" for axis, value in zip(axes, point, strict=True)]
        centre = points[0] if has_centre else ()
        values = choose_shown_values(axes, point, centre, size="model" if is_sized else "")
        if values == BASELINE and options.baseline is not None:  # another arm may be the baseline
            values = choose_shown_values(axes, point)
        arms.append(ArmSpec(values, words, point[[*axes].index("model")] if is_sized else ""))
    return arms


def find_dead_axes(axes: Axes, signatures: dict[Arm, str]) -> list[str]:
    """Return axes whose values never change anything: whatever the others are, all arms are the same recipe."""
    dead = []
    for at, (axis, values) in enumerate(axes.items()):
        groups: dict[Arm, set[str]] = {}
        for arm, signature in signatures.items():
            # arms that differ in this axis only; if each such group has one signature, the axis does nothing
            groups.setdefault(replace_value(arm, at, ""), set()).add(signature)
        if len(values) > 1 and all(len(group) == 1 for group in groups.values()):
            dead.append(axis)
    return dead
