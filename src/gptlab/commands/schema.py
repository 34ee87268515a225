"""JSON schemas of every YAML of the menu, so that an editor completes and checks them as the programs would.

A slot's schema says for each `_target_` which knobs there are, of which type, and what they mean: signature and
docstring of the class. The settings of train.yaml, ablate.yaml and recipes are the fields of their dataclasses.
"""

import inspect
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gptlab.commands.explain import list_slots, split_knob_list, summarize_choice
from gptlab.config.factory import locate, read_knobs
from gptlab.config.json_schema import DRAFT, allow_interpolation, make_object_schema, make_type_schema, make_union
from gptlab.config.menu import list_choices, read_choice
from gptlab.config.ranges import POSITIVE_KEYS
from gptlab.config.recipe import LISTS, Model, Settings, Tracking
from gptlab.runs.record import write_atomically

ANY_DEFAULTS = {"type": "array", "items": {"type": ["string", "object"]}}
SIZES_OR_TRACKING = {"model": Model, "tracking": Tracking}
"""Slots whose choices are values of a dataclass."""
RECIPES = "experiment"
PROGRAMS = ("train", "ablate")


def make_schemas(study_options: type) -> dict[str, dict[str, Any]]:
    """Return a schema for each slot, for recipes, and for the YAMLs of the two programs, by name.

    study_options  the dataclass that types the keys of conf/ablate.yaml
    """
    slots = {slot: read_targets(slot) for slot in list_slots() if slot not in (*SIZES_OR_TRACKING, RECIPES)}
    schemas = {slot: make_slot_schema(slot, targets) for slot, targets in slots.items()}
    for slot, kind in SIZES_OR_TRACKING.items():
        schemas[slot] = make_values_schema(slot, kind)
    schemas["train"] = make_program_schema({}, slots) | {"title": "train.yaml"}
    study = make_object_schema(study_options)["properties"]
    study.pop("study")
    # a recipe may hold a study's keys too; a program's own YAML names everything, a recipe what it changes
    for name, title in (("ablate", "ablate.yaml"), (RECIPES, "a recipe: experiment=NAME")):
        schemas[name] = make_program_schema(study, slots) | {"title": title}
    return {name: {"$schema": DRAFT, **schema} for name, schema in sorted(schemas.items())}


def write_schemas(schemas: dict[str, dict[str, Any]], folder: Path) -> list[Path]:
    """Write each schema as <name>.json, and return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, schema in schemas.items():
        paths.append(folder / f"{name}.json")
        write_atomically(paths[-1], json.dumps(schema, indent=1, ensure_ascii=False) + "\n")
    return paths


def make_editor_settings(names: Iterable[str], folder: str) -> dict[str, Any]:
    """Return the settings of VS Code's YAML extension, which say what file has which schema."""
    files = {name: f"conf/{name}.yaml" if name in PROGRAMS else f"conf/{name}/*.yaml" for name in sorted(names)}
    return {"yaml.schemas": {f"./{folder}/{name}.json": file for name, file in files.items()}}


# -- slots


def read_targets(slot: str) -> dict[str, dict[str, Any]]:
    """Return the classes that the choices of a slot name, each with the schemas of its knobs."""
    targets: dict[str, dict[str, Any]] = {}
    for choice in list_choices(slot):
        node = read_choice(slot, choice)
        name = str(node.get("_target_", "")) if isinstance(node, dict) else ""
        if name not in targets:
            targets[name] = _make_knob_schemas(locate(name, slot))
    return targets


def _make_knob_schemas(target: Any) -> dict[str, Any]:
    parameters = read_knobs(target)
    _, meanings = split_knob_list(inspect.cleandoc(target.__doc__ or ""), [*parameters])
    knobs = {}
    for name, parameter in parameters.items():
        schema = allow_interpolation(make_type_schema(parameter.annotation))
        knobs[name] = {"description": meanings[name], **schema} if name in meanings else schema
    return knobs


def make_slot_schema(slot: str, targets: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the schema of a choice: its knobs are those of its class, all of them, unless it inherits from another."""
    cases = []
    for target, knobs in targets.items():
        head = {"_target_": {}, "_partial_": {"const": True}, "defaults": ANY_DEFAULTS}
        case = {"properties": head | knobs, "additionalProperties": False}
        if knobs:
            case |= {"anyOf": [{"required": ["defaults"]}, {"required": [*knobs]}]}
        is_this = {"properties": {"_target_": {"const": target}}, "required": ["_target_"]}
        cases.append({"if": is_this, "then": case})
    # a class of a package of one's own is checked by the programs, one of ours must be there
    known = {"anyOf": [{"enum": [*targets]}, {"type": "string", "pattern": r"^(?!gptlab\.)\w+(\.\w+)+$"}]}
    return {
        "title": f"a choice of {slot}",
        "type": "object",
        "properties": {"_target_": known, "_partial_": {"const": True}, "defaults": ANY_DEFAULTS},
        "required": ["_target_", "_partial_"],
        "allOf": cases,
    }


def make_values_schema(slot: str, kind: type) -> dict[str, Any]:
    """Return the schema of a slot whose choices are values of a dataclass."""
    schema = make_object_schema(kind, POSITIVE_KEYS, f"{slot}.", whole=True)
    required = schema.pop("required")
    properties = {**schema["properties"], "defaults": ANY_DEFAULTS}
    alternatives = [{"required": ["defaults"]}, {"required": required}]
    return {**schema, "title": f"a choice of {slot}", "properties": properties, "anyOf": alternatives}


# -- programs and recipes


def make_program_schema(study: dict[str, Any], slots: dict[str, dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Return the schema of a YAML of settings, in which knobs of slots may be set too.

    study  schemas of the study's own keys
    slots  classes of each slot with the schemas of their knobs
    """
    settings = make_object_schema(Settings, POSITIVE_KEYS)
    nodes = {slot: _make_partial_schema(slot, targets) for slot, targets in slots.items()}
    free = {"type": "object"}
    own = {"defaults": _make_defaults_schema([*slots, *SIZES_OR_TRACKING, RECIPES]), "hydra": free}
    own |= {"cell": {"type": ["string", "null"]}} if study else {}
    return {**settings, "properties": {**settings["properties"], **study, **nodes, **own}}


def _make_partial_schema(slot: str, targets: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the schema of a slot's node in a recipe: any knob of any of its classes, since others choose the class."""
    schemas: dict[str, list[dict[str, Any]]] = {}
    for knobs in targets.values():
        for name, schema in knobs.items():
            schemas.setdefault(name, []).append({key: value for key, value in schema.items() if key != "description"})
    head = {"_target_": {"type": "string"}, "_partial_": {"const": True}}
    knobs = head | {name: make_union(several) for name, several in schemas.items()}
    node = {"type": "object", "properties": knobs, "additionalProperties": False}
    # of a list every choice stands under its name
    return {"type": "object", "additionalProperties": node} if slot in LISTS else node


def _make_defaults_schema(slots: list[str]) -> dict[str, Any]:
    """Return the schema of a defaults list, which names choices; a choice that does not exist is refused."""
    entries = {}
    for slot in slots:
        described = [{"const": choice, "description": summarize_choice(slot, choice)} for choice in list_choices(slot)]
        several = {"type": "array", "items": {"enum": list_choices(slot)}}
        entries[rf"^(override )?/?{slot}(@.+)?$"] = allow_interpolation(
            {"anyOf": [*described, several, {"type": "null"}]}
        )
    hydra = {r"^(override )?/?hydra/": {}}
    entry = {"type": "object", "patternProperties": entries | hydra, "additionalProperties": False}
    return {"type": "array", "items": {"anyOf": [{"type": "string"}, entry]}}
