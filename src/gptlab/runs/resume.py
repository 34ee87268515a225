"""The recipe of a run to go on with, and where its files are by now. No hydra."""

import glob
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gptlab.config.factory import check_node, locate, read_knobs
from gptlab.config.later_keys import list_later_keys
from gptlab.config.recipe import COSMETIC_KEYS, LISTS, SLOTS, Recipe, check_settings, flatten
from gptlab.config.typecheck import show_value
from gptlab.errors import Refused, escape_controls
from gptlab.runs.record import REMEDY, read_json, read_recipe, read_unfinished_recipe

MOVABLE_SLOTS = ("data", "tokenizer", "pretrained")
"""Slots whose path says where files are, which may lie elsewhere when a run is resumed: what is in them is checked.

So may those of metrics.
"""
REVISION = "data.revision"
"""Knob that runs on the hub's files of before 2026-12 lack: they take any, as what they learnt is compared."""

PROCESS_KNOBS = ("strategy", "devices", "nodes")
"""Knobs of a trainer that say how many processes share a run's batches: it may go on in another number of them, since
checkpoints hold whole tensors and a batch is a function of the seed and the step.
"""


def list_movable_keys(config: dict[str, Any]) -> list[str]:
    """Return the knobs of a config that say where files are."""
    metrics = [f"metric.{name}" for name, node in (config.get("metric") or {}).items() if node.get("path")]
    return [f"{place}.path" for place in (*MOVABLE_SLOTS, *metrics)]


def explain_no_run(path: str | Path, name: str = "") -> str:
    """Return the line for a path that is no run folder, with the run that it lies in if there is one; `name`: a key."""
    holder = next((folder for folder in Path(path).parents if (folder / "run.json").is_file()), None)
    remedy = f"say {name}{holder}" if holder else "see `python -m gptlab runs`"
    return f"{name}{path} is no run folder; {remedy}"


def resume_recipe(recipe: Recipe, words: set[str]) -> Recipe:
    """Return the recipe of the run folder to go on with.

    Override `words` beside `resume` may only repeat what it was, say where its files are now, or how many processes go
    on with it.
    """
    folder = Path(recipe.config["resume"])
    if folder.is_file():
        raise Refused(explain_no_run(folder, "resume="))
    saved = read_unfinished_recipe(folder)
    # typed words that change nothing are welcome: a command may be repeated with resume= added
    if keys := _find_differences(recipe, saved, words):
        asked, stored = flatten(recipe.config), flatten(saved.config)
        differences = ", ".join(describe_difference(key, stored, asked) for key in keys[:4])
        differences += f" and {len(keys) - 4} more" if len(keys) > 4 else ""
        raise Refused(f"resume={folder} is a run of another config: {differences}; say resume={folder} alone")
    given = {word.partition(".")[0] for word in words}
    cosmetic = {}
    for key in COSMETIC_KEYS:  # a key that came later has no value in an older run
        cosmetic[key] = recipe.config[key] if key in given else saved.config.get(key, recipe.config[key])
    # the folder may have been moved with its pool: what it says of its place is out of date
    cosmetic |= {"resume": str(folder), "outputs": str(folder.absolute().parents[1])}
    began = read_start_folder(folder)
    nodes = {}
    for slot in MOVABLE_SLOTS:
        if saved.config.get(slot):
            moved = slot in given and (recipe.config.get(slot) or {}).get("path")
            nodes[slot] = {**saved.config[slot], "path": moved} if moved else anchor_node(began, saved.config[slot])
    if REVISION in words and not saved.config["data"].get("revision"):
        nodes["data"] = {**nodes["data"], "revision": recipe.config["data"]["revision"]}
    metrics = {}
    for name, node in saved.config["metric"].items():
        if f"metric.{name}.path" in words:
            metrics[name] = {**node, "path": recipe.config["metric"][name]["path"]}
        else:
            metrics[name] = anchor_node(began, node)
    nodes["metric"] = metrics
    given_knobs = {knob for knob in PROCESS_KNOBS if {"trainer", f"trainer.{knob}"} & words}
    nodes["trainer"] = saved.config["trainer"] | {knob: recipe.config["trainer"][knob] for knob in given_knobs}
    choices = saved.choices | ({"trainer": recipe.choices["trainer"]} if "trainer" in words else {})
    for slot in ("data", "trainer"):
        nodes[slot] = add_later_knobs(slot, nodes.get(slot, saved.config[slot]))
    resumed = Recipe({**saved.config, **cosmetic, **nodes}, choices, saved.differs)
    _refuse_other_version(resumed, folder)
    return resumed


def add_later_knobs(slot: str, node: dict[str, Any]) -> dict[str, Any]:
    """Return a choice of an older run with the knobs that its class has by now, at what they were before."""
    later = list_later_keys(slot, node)
    return {**{key: later[key] for key in read_knobs(locate(node["_target_"], slot)) if key in later}, **node}


def _refuse_other_version(recipe: Recipe, folder: Path) -> None:
    """Refuse to go on with a run whose keys are not those of this gptlab."""
    if keys := list_foreign_keys(recipe.config):
        git = read_json(folder / "run.json").get("git") or "unknown"
        raise Refused(f"resume={folder} was made by another gptlab ({keys[0]}); resume it with that of commit {git}")


def list_foreign_keys(config: dict[str, Any]) -> list[str]:
    """Return a line for each key that a run's config lacks or has too many, as another gptlab wrote it."""
    nodes = {slot: config.get(slot) for slot in SLOTS if slot not in LISTS}
    problems = [*check_settings(config), *(line for slot in nodes for line in check_node(nodes[slot], slot))]
    return [line for line in problems if "no value given" in line or "no such key" in line]


def read_start_folder(folder: Path) -> str:
    """Return the folder in which a run was started, from which its relative paths are."""
    began = read_json(folder / "run.json").get("cwd")
    if not isinstance(began, str):
        raise Refused(f"{folder}/run.json does not say where the run was started (cwd); {REMEDY}")
    return began


def describe_difference(key: str, stored: Mapping[str, Any], current: Mapping[str, Any]) -> str:
    """Return a key with its value in the flat config of a stored run, "there", and of this command, "here"."""
    return f"{key} ({show_value(stored.get(key))} there, {show_value(current.get(key))} here)"


def _find_differences(recipe: Recipe, saved: Recipe, words: set[str]) -> list[str]:
    """Return the keys that override words set to something else than a run has."""
    asked_config, stored = flatten(recipe.config), flatten(saved.config)
    movable = [*list_movable_keys(recipe.config), *(f"trainer.{knob}" for knob in PROCESS_KNOBS)]
    if "fsdp" in (asked_config.get("trainer.strategy"), stored.get("trainer.strategy")):
        movable.remove("trainer.strategy")  # its moments are kept under other names
    movable += [] if stored.get(REVISION) else [REVISION]
    # data=text beside resume= may say again which class, and where its files are, but no other knob
    given_keys = [f"{word}._target_" if word in MOVABLE_SLOTS else word for word in words]

    def is_given(key: str) -> bool:
        return "experiment" in words or any(key == word or key.startswith(f"{word}.") for word in given_keys)

    differing = []
    for key in {**stored, **asked_config}:
        is_fixed = key not in movable and key.split(".")[0] not in COSMETIC_KEYS
        if is_fixed and asked_config.get(key) != stored.get(key) and is_given(key):
            differing.append(key)
    return differing


def name_choices(words: list[str]) -> list[str]:
    """Return a command line in which a path beside resume=RUN, as data.path=<elsewhere>, has its slot's choice too."""
    folder = next((word.partition("=")[2].strip("'\"") for word in words if word.startswith("resume=")), "")
    places = (*(f"{slot}.path=" for slot in MOVABLE_SLOTS), f"{REVISION}=", "metric.")
    moved = [word for word in words if word.startswith(places)]
    if not moved or not (Path(folder) / "run.json").is_file():
        return words
    saved = read_recipe(Path(folder))
    moved_slots = dict.fromkeys(word.partition(".")[0] for word in moved)
    choices = {**saved.choices, "metric": f"[{','.join(saved.config['metric'])}]"}
    choice_words = [f"{slot}={choices[slot]}" for slot in moved_slots if choices.get(slot)]
    return [*(word for word in choice_words if word not in words), *words]


def describe_idle_outputs(words: Iterable[str]) -> list[str]:
    """Return a line for outputs=<folder> beside resume=RUN, which goes on in its own folder, where that is another."""
    values = dict(word.split("=", 1) for word in words if word.startswith(("resume=", "outputs=")))
    folder, outputs = (values.get(key, "").strip("'\"") for key in ("resume", "outputs"))
    if not outputs or folder in ("", "auto", "null"):
        return []
    run = Path(folder).resolve()
    if len(run.parents) > 1 and run.parents[1] == Path(outputs).resolve():
        return []
    return [f"outputs={escape_controls(outputs)} does nothing: resume={escape_controls(folder)} goes on in its folder"]


def anchor_path(path: str | list[str], folder: str) -> Any:
    """Return `path`, or each of several, as seen from `folder`; unchanged where nothing is there, as for a data set."""
    if isinstance(path, list):
        return [anchor_path(item, folder) for item in path]
    candidate = Path(folder) / Path(path).expanduser()
    return str(candidate) if candidate.exists() or glob.glob(str(candidate), recursive=True) else path


def anchor_node(folder: str, node: dict[str, Any]) -> dict[str, Any]:
    """Return a slot's node with its path as seen from `folder`."""
    return {**node, "path": anchor_path(node["path"], folder)} if node.get("path") else node
