"""Menu of all that a command can say, as plain data: slots, their choices and knobs, settings of a run and of a study.

Enough for a program to write a valid command without reading the code.
"""

import inspect
import typing
from typing import Any

from rich.console import Console
from rich.text import Text

from gptlab.commands.explain import find_knobs, list_slots, split_knob_list, summarize_choice
from gptlab.config.factory import locate, read_knobs
from gptlab.config.menu import find_yaml, list_choices, read_choice
from gptlab.config.recipe import LISTS, Settings, flatten
from gptlab.config.typecheck import describe_type, show_value

NOT_SETTINGS = ("defaults", "hydra", "cell")


def describe_menu(study_options: type, word: str = "") -> dict[str, Any]:
    """Return slots, settings and study options, those with all of some words in name or description if any are given.

    study_options  the dataclass that types the keys of conf/ablate.yaml
    """
    defaults = _read_defaults()
    slots = {slot: _describe_slot(slot, defaults.get(slot)) for slot in list_slots()}
    run = _describe_settings("train", typing.get_type_hints(Settings), [*slots])
    # ablate.yaml repeats keys of train.yaml with other defaults: these are listed once, with the run's
    study = _describe_settings(
        "ablate", typing.get_type_hints(study_options), [*slots, *(key.partition(".")[0] for key in run)]
    )
    menu = {"slots": slots, "settings": run, "study": study}
    if not word:
        return menu
    chosen = {slot: _filter_choices(slot, described, word) for slot, described in slots.items()}
    return {
        "slots": {slot: described for slot, described in chosen.items() if described["choices"]},
        "settings": _filter_settings(run, word),
        "study": _filter_settings(study, word),
    }


INDENT = 4
"""Columns before the lines below a choice."""


def print_menu(menu: dict[str, Any], console: Console) -> None:
    """Print each choice, with its line and its knobs below it, and each setting with its line behind it.

    Elsewhere than on a terminal each is one line, for grep.
    """
    for slot, described in menu["slots"].items():
        for choice, facts in described["choices"].items():
            knobs = " ".join(f"{slot}.{knob}" for knob in facts["knobs"])
            star = "*" if choice == described["default"] or choice in (described["default"] or ()) else " "
            _print_entry(f"{star} {slot}={choice}", facts["about"], f"[{knobs}]" if knobs else "", console)
    for part in ("settings", "study"):
        for key, facts in menu[part].items():
            _print_entry(f"  {key}={show_value(facts['default'])}", facts["about"], "", console)


def _print_entry(name: str, about: str, knobs: str, console: Console) -> None:
    """Print an entry of the menu in one line; on a terminal, where it is longer than that is wide, in several."""
    rest = [part for part in (about, knobs) if part]
    line = Text("  ").join([Text(name, "bold"), *map(Text, rest)])
    if not console.is_terminal or line.cell_len <= console.width:
        console.print(line, soft_wrap=True)
        return
    console.print(Text(name, "bold"), soft_wrap=True)  # whole, to be copied
    for part in rest:
        # an entry is found by its name at the margin, so what belongs to it is indented
        for piece in Text(part).wrap(console, max(console.width - INDENT, 20)):
            console.print(Text(" " * INDENT) + piece, soft_wrap=True)


def _read_yaml(name: str) -> tuple[dict[str, Any], list[str]]:
    group, _, choice = name.rpartition("/")
    lines = find_yaml(group, choice).read_text(encoding="utf-8").splitlines()
    return read_choice(group, choice) or {}, lines


def _read_defaults() -> dict[str, Any]:
    """Return the default choice of each slot, a list for those that take any number."""
    defaults: dict[str, Any] = {}
    for name in ("train", "ablate"):
        for entry in _read_yaml(name)[0]["defaults"]:
            if isinstance(entry, dict):
                ((slot, choice),) = entry.items()
                defaults[slot.removeprefix("override ")] = choice
    return defaults


def _describe_slot(slot: str, default: Any) -> dict[str, Any]:
    choices = {choice: describe_slot_choice(slot, choice) for choice in list_choices(slot)}
    return {"default": default, "takes_a_list": slot in LISTS, "choices": choices}


def describe_slot_choice(slot: str, choice: str) -> dict[str, Any]:
    """Return a choice's line and its knobs, each with type, default and line."""
    node, lines = _read_yaml(f"{slot}/{choice}")
    about = {"about": summarize_choice(slot, choice)}
    # a size, a recipe, a tracking: it sets what others declare
    if "_target_" not in node:
        return {**about, "knobs": {}}
    target = locate(node["_target_"], slot)
    knobs = [key for key in find_knobs(lines) if key != "defaults" and not key.startswith("_")]
    # what a knob means stands in its class alone; a YAML's comment is the second source
    _, meanings = split_knob_list(inspect.cleandoc(target.__doc__ or ""), knobs)
    types = {name: describe_type(parameter.annotation) for name, parameter in read_knobs(target).items()}
    comments = _read_comments(lines)
    described = {}
    for knob in knobs:
        described[knob] = {
            "type": types.get(knob, ""),
            "default": node.get(knob),
            "about": meanings.get(knob) or comments.get(knob, ""),
        }
    return {**about, "knobs": described}


def _read_comments(lines: list[str]) -> dict[str, str]:
    """Return the comment behind each key of a YAML, that of a nested key by its last part."""
    pairs = (line.partition("  #") for line in lines if ":" in line)
    return {key.partition(":")[0].strip(): comment.strip() for key, mark, comment in pairs if mark}


def _describe_settings(name: str, hints: dict[str, Any], left_out: list[str]) -> dict[str, Any]:
    """Return the keys of train.yaml or ablate.yaml that are no slots."""
    config, lines = _read_yaml(name)
    comments = _read_comments(lines)
    own = {
        key: value for key, value in config.items() if key not in (*NOT_SETTINGS, *left_out)
    }  # not a run's, set anew
    described = {}
    for key, value in flatten(own).items():
        about = comments.get(key.rpartition(".")[2], "")
        described[key] = {"type": _describe_hint(hints, key), "default": value, "about": about}
    return described


def _describe_hint(hints: dict[str, Any], key: str) -> str:
    """Return the declared type of a dotted key in words."""
    first, _, rest = key.partition(".")
    hint = hints.get(first)
    if hint is None:
        return ""
    return _describe_hint(typing.get_type_hints(hint), rest) if rest else describe_type(hint)


def _filter_choices(slot: str, described: dict[str, Any], word: str) -> dict[str, Any]:
    choices = described["choices"]
    matching = {}
    for name, facts in choices.items():
        knobs = " ".join(f"{slot}.{knob}" for knob in facts["knobs"])  # as they are printed and typed
        if _mentions(word, f"{slot}={name} {knobs}", facts):
            matching[name] = facts
    return {**described, "choices": matching}


def _filter_settings(settings: dict[str, Any], word: str) -> dict[str, Any]:
    return {key: facts for key, facts in settings.items() if _mentions(word, key, facts)}


def _mentions(word: str, name: str, facts: dict[str, Any]) -> bool:
    text = f"{name} {facts}".lower()
    return all(part in text for part in word.lower().split())
