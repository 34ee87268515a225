"""Completions that a shell offers for words of a config: slots, settings, choices, and the knobs of what is chosen.

Only the YAMLs of the menu are read, neither hydra nor torch is imported, so that an answer comes in a fraction of a
second. train.py and ablate.py themselves have hydra's own completion (docs/shell.md).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
import yaml

from gptlab.config.menu import CONF, find_yaml, list_choices
from gptlab.config.recipe import flatten

HIDDEN = ("defaults", "hydra", "cell", "content")
"""Keys of train.yaml and ablate.yaml that nobody types."""


def complete_override(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the words that may stand where `incomplete` is typed: `attention=gqa` for `attention=g`.

    bash breaks words at `=`, and replaces only what stands behind the last break; zsh and fish have whole words.
    """
    before = list(_flatten_words(ctx.params.values()))
    program = "ablate" if ctx.info_name == "ablate" else "train"
    if before and before[-1] == "=":  # bash: `attention`, `=`, `g`
        return _strip_key(complete_word(f"{before[-2]}={incomplete}", before[:-2], program))
    if before and not incomplete and _list_values(before[-1], program):  # bash, at `attention=`: the `=` is left out
        return _strip_key(complete_word(f"{before[-1]}=", before[:-1], program))
    return complete_word(incomplete, before, program)


def complete_slot(incomplete: str) -> list[str]:
    """Return the slots that begin so."""
    return [slot for slot in list_slot_folders() if slot.startswith(incomplete)]


def complete_word(word: str, before: list[str], program: str = "train") -> list[str]:
    """Return the words of a config that begin with `word`; of several values with commas the last one is completed.

    before   the words that stand before it, which may choose whose knobs there are
    program  train or ablate: whose settings are offered
    """
    key, is_value, value = word.partition("=")
    if is_value:
        done, comma, last = value.rpartition(",")
        given = done.split(",")
        values = [choice for choice in _list_values(key, program) if choice.startswith(last) and choice not in given]
        return [f"{key}={done}{comma}{choice}" for choice in values]
    keys = [f"{name}=" for name in (*list_slot_folders(), *_read_settings(program))]
    slot, dot, _ = key.partition(".")
    if dot:
        keys += [f"{slot}.{knob}=" for knob in _list_knobs(slot, before)]
    return sorted({name for name in keys if name.startswith(word)})


def list_slot_folders() -> list[str]:
    """Return every folder of choices."""
    return sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name != "hydra")


def _flatten_words(values: Any) -> Iterator[str]:
    for value in values:
        if isinstance(value, str | Path):
            yield str(value)
        elif isinstance(value, list | tuple):
            yield from _flatten_words(value)


def _strip_key(words: list[str]) -> list[str]:
    return [word.partition("=")[2] for word in words]


def _list_values(key: str, program: str) -> list[str]:
    """Return the values of a slot, or of a switch."""
    if key in list_slot_folders():
        return list_choices(key)
    return ["false", "true"] if isinstance(_read_settings(program).get(key), bool) else []


def _read_settings(program: str) -> dict[str, Any]:
    """Return the keys of a program's YAML with their defaults, by their dotted names."""
    settings: dict[str, Any] = {}
    for name in dict.fromkeys(("train", program)):
        config = _read_yaml(CONF / f"{name}.yaml")
        settings |= flatten({key: value for key, value in config.items() if key not in HIDDEN})
    return settings


def _list_knobs(slot: str, before: list[str]) -> list[str]:
    """Return the knobs of the choice of a slot: the one that is typed, else the default."""
    defaults = [entry for entry in _read_yaml(CONF / "train.yaml")["defaults"] if isinstance(entry, dict)]
    choices = [entry[slot] for entry in defaults if isinstance(entry.get(slot), str)]
    # bash hands `attention=gqa` over in three words
    text = "\n".join(before).replace("\n=\n", "=")
    choices += [word.partition("=")[2] for word in text.split("\n") if word.startswith(f"{slot}=")]
    if not choices:
        return []
    return [key for key in _read_yaml(find_yaml(slot, choices[-1])) if not key.startswith("_") and key != "defaults"]


def _read_yaml(file: Path) -> dict[str, Any]:
    return (yaml.safe_load(file.read_text(encoding="utf-8")) or {}) if file.exists() else {}
