"""Annotations as JSON schemas (draft 7, which editors read): the same types that `typecheck` holds values against."""

import types
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin

DRAFT = "http://json-schema.org/draft-07/schema#"
"""Names the language of a schema; nothing is fetched from there."""
INTERPOLATION = {"type": "string", "pattern": r"\$\{.+\}"}
"""A value that is computed from others, as ${model.lr}."""
PLAIN = {
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    str: {"type": "string"},
    dict: {"type": "object"},
    None: {"type": "null"},
    type(None): {"type": "null"},
}
CHOICE = {"type": ["object", "null"], "properties": {"_target_": {"type": "string"}}}
"""A choice inside a choice; null where the defaults list of the file sets it."""


def make_type_schema(wanted: Any) -> dict[str, Any]:
    """Return the schema of an annotated type."""
    origin, inside = get_origin(wanted), get_args(wanted)
    if wanted is Any:
        return {}
    if is_dataclass(wanted):
        return make_object_schema(wanted)
    if origin in (Union, types.UnionType):
        return make_union([make_type_schema(kind) for kind in inside])
    if origin is Literal:
        return {"enum": [*inside]}
    if origin is Callable or wanted is Callable:
        return CHOICE
    if origin is dict:
        return {"type": "object", "additionalProperties": allow_interpolation(make_type_schema(inside[1]))}
    if origin is tuple:
        return {"type": "array", "items": [*map(make_type_schema, inside)], "minItems": len(inside)} | NO_MORE
    if isinstance(origin, type):
        return {"type": "array", "items": allow_interpolation(make_type_schema(inside[0]))}
    return PLAIN[wanted]


NO_MORE = {"additionalItems": False}


def make_union(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the schema of a value that fits one of several, each once."""
    unique = [schema for at, schema in enumerate(schemas) if schema not in schemas[:at]]
    return unique[0] if len(unique) == 1 else {"anyOf": unique}


def allow_interpolation(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a value that may be computed from others too."""
    if not schema:  # anything goes already
        return schema
    described = {key: schema[key] for key in ("description", "default") if key in schema}
    bare = {key: value for key, value in schema.items() if key not in described}
    return {**described, "anyOf": [*bare.get("anyOf", [bare]), INTERPOLATION]}


def make_object_schema(
    kind: Any, positive: tuple[str, ...] = (), path: str = "", whole: bool = False
) -> dict[str, Any]:
    """Return the schema of a dataclass of settings.

    positive  dotted keys whose numbers must be above 0
    whole     whether all keys without a default must be there
    """
    properties = {}
    for item in fields(kind):
        name = f"{path}{item.name}"
        if is_dataclass(item.type):
            properties[item.name] = make_object_schema(item.type, positive, f"{name}.", whole)
            continue
        schema: dict[str, Any] = make_type_schema(item.type)
        properties[item.name] = allow_interpolation(_bound(schema) if name in positive else schema)
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    needed = [item.name for item in fields(kind) if item.default is MISSING and item.default_factory is MISSING]
    return {**schema, "required": needed} if whole else schema


def _bound(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with its numbers above 0."""
    if "anyOf" in schema:
        return {"anyOf": [*map(_bound, schema["anyOf"])]}
    return {**schema, "exclusiveMinimum": 0} if schema.get("type") in ("integer", "number") else schema
