"""like=RUN: a command line that says what a run is, to change some things of it.

What is typed beside it wins, and a slot that is typed loses the knobs of its former choice. A value that only follows
from others, as a feed-forward width from the model's, is left to follow.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gptlab.config.command_line import put_options_first
from gptlab.config.recipe import COSMETIC_KEYS, LISTS, flatten
from gptlab.config.typecheck import quote_for_hydra
from gptlab.errors import Refused
from gptlab.runs.record import read_recipe
from gptlab.runs.resume import (
    add_later_knobs,
    anchor_path,
    explain_no_run,
    list_foreign_keys,
    list_movable_keys,
    read_start_folder,
)

LEFT_OUT = (*COSMETIC_KEYS, "content", "seed")
"""Keys that are not of the recipe that two runs share."""
ALWAYS = ("steps",)
"""Keys that are said although they are train.py's own: ablate.py has others."""
NOT_CHOSEN = ("experiment", "tracking", "study")

ComposeConfig = Callable[[list[str]], tuple[dict[str, Any], dict[str, Any]]]
"""Overrides of train.yaml to the choices by slot, and the resolved config."""


def expand_like(words: list[str], compose_config: ComposeConfig) -> list[str]:
    """Return a command line without like=RUN, which has what the run is instead; unchanged where there is none."""
    folders = [word.partition("=")[2].strip("'\"") for word in words if word.startswith("like=")]
    if not folders:
        return words
    folder = Path(folders[-1])
    if not folders[-1] or not (folder / "run.json").is_file():
        raise Refused(explain_no_run(folders[-1], "like="))
    if len({*folders}) > 1:
        raise Refused(f"like={folders[0]} and like={folder} are two recipes; leave one of them out")
    if any(word.startswith("resume=") for word in words):
        raise Refused(f"like={folder} begins a run, and resume= goes on with one; leave one of them out")
    for word in words:
        key, _, value = word.lstrip("+").partition("=")
        # what the run is would stand behind it, so that it gave the run a name and nothing else
        if key == "experiment" and value not in ("", "null"):
            raise Refused(f"like={folder} and {word} are two recipes; leave one of them out")
    # typed words come last, where they win
    typed = [word for word in words if not word.startswith("like=")]
    # without options and their values: -p steps prints a key, and says nothing of it
    keys = {word.partition("=")[0].lstrip("+~") for word in typed if "=" in word or word.startswith("~")}
    _refuse_other_version(folder, keys)
    inherited = [word for word in describe_run_in_words(folder, compose_config) if not _is_replaced(word, keys)]
    return put_options_first([*inherited, *typed])


def _refuse_other_version(folder: Path, typed: set[str]) -> None:
    """Refuse a run whose keys are not those of this gptlab: of those it lacks, ours may be another than it had."""
    saved = read_recipe(folder).config
    nodes = {slot: add_later_knobs(slot, saved[slot]) for slot in ("data", "trainer")}
    lines = [line for line in list_foreign_keys({**saved, **nodes}) if not _is_replaced(line.partition(":")[0], typed)]
    if lines:
        key = lines[0].partition(":")[0]
        remedy = f"say {key}=VALUE beside it" if "no value given" in lines[0] else "say its words without this key"
        raise Refused(f"like={folder} was made by another gptlab ({lines[0]}); {remedy}")


def _is_replaced(word: str, typed: set[str]) -> bool:
    """Whether a word is said anew: the same key, or a knob of a slot that has another choice now."""
    key = word.partition("=")[0]
    return key in typed or key.partition(".")[0].partition("@")[0] in typed


def describe_run_in_words(folder: Path, compose_config: ComposeConfig) -> list[str]:
    """Return the overrides of train.yaml that stand for a run: its choices, then the knobs that differ from theirs."""
    recipe, began = read_recipe(folder), read_start_folder(folder)
    saved = recipe.config
    words = [*_name_choices(recipe.choices, saved)]
    stored = {key: value for key, value in flatten(saved).items() if key.partition(".")[0] not in LEFT_OUT}
    stored |= {key: anchor_path(stored[key], began) for key in list_movable_keys(saved) if stored.get(key)}
    # sizes before knobs: of the knobs many then follow by themselves, and need not be said
    for is_first in (_is_of_the_whole, lambda _: True):
        usual = flatten(compose_config(words)[1])
        added = []
        for key, value in stored.items():
            is_missing = key in ALWAYS and f"{key}={value}" not in words
            if is_first(key) and (usual.get(key) != value or is_missing):
                added.append(f"{key}={quote_for_hydra(value)}")
        words += added
    return words


def _name_choices(choices: dict[str, Any], saved: dict[str, Any]) -> Iterator[str]:
    yield from (f"{slot}=[{','.join(saved.get(slot) or ())}]" for slot in LISTS)
    for slot, choice in choices.items():
        if slot not in (*LISTS, *NOT_CHOSEN) and choice is not None:
            yield f"{slot}={choice}"


def _is_of_the_whole(key: str) -> bool:
    """Whether a key is one from which the knobs of parts may follow."""
    return "." not in key or key.startswith("model.")
