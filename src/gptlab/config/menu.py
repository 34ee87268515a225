"""The menu: slots and choices as the folders and files of conf/, and of the conf/ of registered packages."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from gptlab.config.places import ABLATE as ABLATE
from gptlab.config.places import CONF as CONF
from gptlab.config.places import TRAIN as TRAIN
from gptlab.config.variant_packages import list_variant_packages


def list_conf_folders() -> list[Path]:
    """Return every folder of slots, gptlab's own first."""
    return [CONF, *(package.conf for package in list_variant_packages())]


def list_choices(group: str) -> list[str]:
    """Return the choices of a slot."""
    # one flat menu: whose choice it is shows only in its YAML
    return sorted(path.stem for conf in list_conf_folders() for path in (conf / group).glob("*.yaml"))


def find_yaml(group: str, choice: str) -> Path:
    """Return the file of a choice, that of gptlab's own conf/ if there is none."""
    files = [conf / group / f"{choice}.yaml" for conf in list_conf_folders()]
    return next((file for file in files if file.exists()), files[0])


def select_choices_that_reach(words: list[str], keys: list[str]) -> list[str]:
    """Return those of the choices, as attention=gqa, that may set or move the value of any of `keys`.

    A choice sets its own part alone, unless its YAML names a package, has defaults of its own, or is not found.
    """
    slots = {key.partition(".")[0] for key in keys}
    selected = []
    for word in words:
        slot, _, choice = word.removeprefix("+").partition("=")
        file = find_yaml(slot, choice)
        text = file.read_text(encoding="utf-8") if file.exists() else "@package"
        if slot in slots or "@package" in text or "\ndefaults:" in f"\n{text}":
            selected.append(word)
    return selected


def read_choice(group: str, choice: str) -> Any:
    """Return the content of a choice's YAML; raise yaml.YAMLError, which names the file, if it is no YAML."""
    with find_yaml(group, choice).open(encoding="utf-8") as file:
        return yaml.safe_load(file)


def explain_unused_knob(line: str, words: Sequence[str], choices: Mapping[str, Any]) -> str:
    """Return a clearer line for a refused knob that another choice of its slot has, and the chosen one has not.

    words    the overrides that were composed
    choices  the choice of each slot where the words name none
    """
    key, _, rest = line.partition(": no such key")
    slot, _, knob = key.partition(".")
    if not rest or not knob:
        return line
    # read as text: to compose every choice of the slot would take seconds
    texts = [find_yaml(slot, choice).read_text(encoding="utf-8") for choice in list_choices(slot)]
    if not any(f"\n{knob}:" in text for text in texts):
        return line
    choice = next((word for word in words if word.startswith(f"{slot}=")), f"{slot}={choices.get(slot)}")
    return f"{key} has no effect with {choice}; leave one of them out"
