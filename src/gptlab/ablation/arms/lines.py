"""Lines that say which arms they are about, and the line of a study that has one arm alone."""

import re
from collections.abc import Callable, Mapping, Sequence

from gptlab.ablation.cells import Variant
from gptlab.ablation.options import StudyOptions
from gptlab.config.recipe import PARTS
from gptlab.stats.labels import label_value

COMPARED_SLOTS = (*PARTS, "init", "optimizer", "schedule")
"""Slots of which a study names one choice to compare it, where another data set or tokenizer is what it is done on."""


def name_arms(line: str, keys: Sequence[str], variants: Sequence[Variant]) -> str:
    """Return a line with the arms that it is about, by `keys`, in front of it.

    They are left out where it is about all variants, and where the override that it begins with says which they are.
    """
    of_line = [variant for variant in variants if variant.key in keys]
    if len(of_line) == len(variants):
        return line
    for word in _list_words(of_line[0]):
        begins_with_it = re.match(rf"{re.escape(word)}(?=[\s:,;])", line)
        if begins_with_it and of_line == [variant for variant in variants if word in _list_words(variant)]:
            return line
    return f"{', '.join(keys)}: {line}"


def _list_words(variant: Variant) -> list[str]:
    """Return the overrides that a variant's name shows, as refusals write them."""
    values = [*variant.values, *([("model", variant.size)] if variant.size else [])]
    # a list of one choice is refused by the choice: change=nope for change=[nope]
    return [re.sub(r"=\[([^,\]]*)\]$", r"=\1", label_value(knob, value)) for knob, value in values]


def describe_single_arm(
    options: StudyOptions,
    variants: Sequence[Variant],
    fixed: Mapping[str, str],
    read_defaults: Callable[[], Mapping[str, str]],
) -> list[str]:
    """Return the line of a training study that compares nothing, since it has one arm; [] for others.

    fixed          overrides of the command line with one value, by key
    read_defaults  returns the choice of each slot where the command line says nothing of it
    """
    if len(variants) > 1 or options.design == "search" or options.budgets or options.has_twin or options.controls:
        return []
    defaults = read_defaults()
    chosen = {key: word.partition("=")[2] for key, word in fixed.items() if key in COMPARED_SLOTS}
    changed = next((key for key, choice in chosen.items() if choice != defaults[key]), "")
    pair = f"{changed}={defaults[changed]},{chosen[changed]}" if changed else "attention=mha,gqa"
    return [f"one arm: its seeds show their noise, and nothing is compared; to compare, give several values: {pair}"]
