"""like=RUN: a command line that says what a run is, to change some things of it.

What is typed beside it wins, and a slot that is typed loses the knobs of its former choice. A value that only follows
from others, as a feed-forward width from the model's, is left to follow.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gptlab.config.recipe import COSMETIC_KEYS, LISTS, flatten
from gptlab.config.typecheck import quote_for_hydra
from gptlab.errors import Refused
from gptlab.runs.record import read_json, read_recipe
from gptlab.runs.resume import anchor_path, explain_no_run, list_movable_keys

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
    if any(word.startswith("resume=") for word in words):
        raise Refused(f"like={folder} begins a run, and resume= goes on with one; leave one of them out")
    # typed words come last, where they win
    typed = [word for word in words if not word.startswith("like=")]
    keys = {word.partition("=")[0].lstrip("+~") for word in typed}
    inherited = [word for word in describe_run_in_words(folder, compose_config) if not _is_replaced(word, keys)]
    return [*inherited, *typed]


def _is_replaced(word: str, typed: set[str]) -> bool:
    """Whether a word is said anew: the same key, or a knob of a slot that has another choice now."""
    key = word.partition("=")[0]
    return key in typed or key.partition(".")[0].partition("@")[0] in typed


def describe_run_in_words(folder: Path, compose_config: ComposeConfig) -> list[str]:
    """Return the overrides of train.yaml that stand for a run: its choices, then the knobs that differ from theirs."""
    facts, saved = read_json(folder / "run.json"), read_recipe(folder).config
    words = [*_name_choices(facts["choices"], saved)]
    stored = {key: value for key, value in flatten(saved).items() if key.partition(".")[0] not in LEFT_OUT}
    stored |= {key: anchor_path(stored[key], facts["cwd"]) for key in list_movable_keys(saved) if stored.get(key)}
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
