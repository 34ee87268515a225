"""Plain values against annotated types, and both in words: annotations are the schema of a config."""

import difflib
import sys
import types
from collections.abc import Callable
from typing import Any, Literal, Union, get_args, get_origin


def unknown(key: str, known: list[str], path: str = "") -> str:
    """The line for a key that does not exist."""
    if key.removeprefix(path) in known:
        return f"{key} cannot be left out; give it a value"
    near = difflib.get_close_matches(key.removeprefix(path), known, 1, 0.5)
    hint = f"did you mean {path}{near[0]}?" if near else f"known: {', '.join(sorted(known))}"
    return f"{key}: no such key; {hint}"


def shown(value: Any) -> str:
    """A value as it is written in a config."""
    return {None: "null", True: "true", False: "false"}[value] if isinstance(value, bool | None) else repr(value)


def conforms(value: Any, wanted: Any) -> bool:
    """True if a plain value is of an annotated type. bool is no int; an int is a fine float; NaN and inf are none."""
    origin, inside = get_origin(wanted), get_args(wanted)
    if wanted is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(conforms(value, one) for one in inside)
    if origin is Literal:
        return any(value == one and type(value) is type(one) for one in inside)
    if wanted is None or wanted is type(None):
        return value is None
    if wanted is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    if wanted is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if origin is dict:
        return isinstance(value, dict) and all(conforms(one, inside[1]) for one in value.values())
    if origin is tuple:
        return isinstance(value, list) and len(value) == len(inside) and all(map(conforms, value, inside))
    if origin is Callable or wanted is Callable:
        return isinstance(value, dict) and "_target_" in value
    if isinstance(origin, type):
        return isinstance(value, list) and all(conforms(one, inside[0]) for one in value)
    return isinstance(value, wanted)


def describe(wanted: Any, value: Any = None) -> str:
    """Describe an annotated type in words, for a `value` that is not of it."""
    origin, inside = get_origin(wanted), get_args(wanted)
    if origin in (Union, types.UnionType):
        return " or ".join(describe(kind, value) for kind in inside)
    if wanted is float and isinstance(value, int | float) and not isinstance(value, bool):
        return "a finite number"
    if origin is Literal:
        return "one of " + ", ".join(map(str, inside))
    if origin is Callable or wanted is Callable:
        return "a choice"
    if origin is tuple:
        return f"a list of {len(inside)} values, each {describe(inside[-1])}"
    if inside:
        return f"a list of {describe(inside[-1])}" if origin is not dict else f"named {describe(inside[-1])}s"
    words = {int: "an int", float: "a number", bool: "true or false", str: "a string", type(None): "null"}
    return words.get(wanted, str(wanted))
