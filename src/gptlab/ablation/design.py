"""Axes to the combinations that a study runs, and the arm that stands for all else.

grid           all combinations
star           each axis alone about the baseline: the usual shape of an ablation
leave_one_out  the full stack, and the full stack less one change at a time
"""

from itertools import product

from gptlab.errors import Refused

Axes = dict[str, list[str]]
"""Knob or slot to its values, as on the command line."""
Arm = tuple[str, ...]
"""A value for each axis, in their order."""


def arms(axes: Axes, design: str, usual: dict[str, str]) -> list[Arm]:
    """The combinations of a design, the baseline's place in the order kept as it was asked. `usual`: what each axis is
    where nothing is said; without it the first value asked for stands for the baseline."""
    axes = {axis: list(dict.fromkeys(values)) for axis, values in axes.items()}
    if design == "grid":
        return list(product(*axes.values()))
    was = tuple(usual[axis] if usual.get(axis) in values else values[0] for axis, values in axes.items())
    if design == "star":
        alone = [exchanged(was, at, value) for at, values in enumerate(axes.values()) for value in values]
        return list(dict.fromkeys([was, *alone]))
    many = [f"{axis}={','.join(values)}" for axis, values in axes.items() if len(values) != 2]
    if many:
        raise Refused(
            f"design=leave_one_out goes back from a change to what was, so an axis has two values; not {many[0]}"
        )
    full = tuple(
        next(value for value in values if value != before) for values, before in zip(axes.values(), was, strict=True)
    )
    return [full, *(exchanged(full, at, before) for at, before in enumerate(was))]


def exchanged(arm: Arm, at: int, value: str) -> Arm:
    """An arm with one value exchanged."""
    return (*arm[:at], value, *arm[at + 1 :])


def label(axes: Axes, arm: Arm, centre: Arm = (), size: str = "") -> str:
    """An arm's name: "attention=gqa norm=layernorm"; of a design about a centre, only what it changes there. The axis
    that is a size is left out; "default" where nothing is left."""
    words = [f"{axis}={value}" for axis, value in zip(axes, arm, strict=True) if axis != size]
    changed = [word for word, value, usual in zip(words, arm, centre, strict=False) if value != usual]
    return " ".join(changed or words) or "default"


def without_effect(axes: Axes, signatures: dict[Arm, str]) -> list[str]:
    """Axes whose values never change anything: whatever the others are, all arms are the same recipe."""
    dead = []
    for at, (axis, values) in enumerate(axes.items()):
        groups: dict[Arm, set[str]] = {}
        for arm, signature in signatures.items():
            groups.setdefault(exchanged(arm, at, ""), set()).add(signature)
        if len(values) > 1 and all(len(group) == 1 for group in groups.values()):
            dead.append(axis)
    return dead
