"""Type checks of plain values against annotations, which are the schema of a config, and both in words."""

import difflib
import json
import re
import shlex
import sys
import types
from collections.abc import Callable
from typing import Any, Literal, Union, get_args, get_origin


def explain_unknown(key: str, known: list[str], path: str = "") -> str:
    """Return the line for a key that does not exist."""
    if key.removeprefix(path) in known:
        return f"{key} cannot be left out; give it a value"
    # 0.5: letters dropped or swapped are near, another word is not
    near = difflib.get_close_matches(key.removeprefix(path), known, 1, 0.5)
    hint = f"did you mean {path}{near[0]}?" if near else f"known: {', '.join(sorted(known))}"
    return f"{key}: no such key; {hint}"


def name_experiment(line: str, choices: dict[str, Any]) -> str:
    """Return the line for an unknown knob with the experiment that sets it; one that was typed is refused by hydra."""
    key, is_unknown, _ = line.partition(": no such key")
    slot, experiment = key.partition(".")[0], choices.get("experiment")
    if not is_unknown or not experiment:
        return line
    return f"{key}: experiment={experiment} sets it, and {slot}={choices.get(slot)} has no such knob; add '~{key}'"


def format_value(value: Any) -> str:
    """Return a value as it is written in a config."""
    return {None: "null", True: "true", False: "false"}[value] if isinstance(value, bool | None) else repr(value)


def show_value(value: Any) -> str:
    """Return a value as a message quotes it: a text as it was typed, anything else as a YAML has it."""
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_show_item, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_show_item(item)}" for key, item in value.items()) + "}"
    return value if isinstance(value, str) else format_value(value)


def _show_item(item: Any) -> str:
    return repr(item) if isinstance(item, str) else show_value(item)


def quote_for_hydra(value: Any) -> str:
    """Return a plain value as hydra's command line has it."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{quote_for_hydra(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(quote_for_hydra, value)) + "]"
    return _quote(value, "'") if isinstance(value, str) else json.dumps(value)


def quote_for_shell(text: str) -> str:
    """Return a text as the value of an override in a shell, in quotes where the shell or hydra needs them."""
    return text if re.fullmatch(r"[\w./+-]+", text, re.ASCII) else shlex.quote(_quote(text, '"'))


def _quote(text: str, mark: str) -> str:
    # to hydra a backslash is one of the text, unless a quotation mark comes behind it
    escaped = re.sub(rf"(\\*)({mark}|\Z)", lambda match: match[1] * 2 + (match[2] and f"\\{mark}"), text)
    return f"{mark}{escaped}{mark}"


def conforms(value: Any, wanted: Any) -> bool:
    """Whether a plain value is of an annotated type. bool is no int; an int is a fine float."""
    origin, inside = get_origin(wanted), get_args(wanted)
    if wanted is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(conforms(value, item) for item in inside)
    if origin is Literal:
        # True == 1 in Python, and is no 1 here
        return any(value == item and type(value) is type(item) for item in inside)
    if wanted is None or wanted is type(None):
        return value is None
    if wanted is float:
        # NaN fails the comparison, inf exceeds it: neither is a value for a knob
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    if wanted is int:
        # of 64 bits: what is larger ends in an overflow somewhere behind
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    if origin is dict:
        return isinstance(value, dict) and all(conforms(item, inside[1]) for item in value.values())
    if origin is tuple:
        return isinstance(value, list) and len(value) == len(inside) and all(map(conforms, value, inside))
    if origin is Callable or wanted is Callable:
        return isinstance(value, dict) and "_target_" in value
    if isinstance(origin, type):
        return isinstance(value, list) and all(conforms(item, inside[0]) for item in value)
    return isinstance(value, wanted)


def describe_type(wanted: Any, value: Any = None) -> str:
    """Return an annotated type in words."""
    origin, inside = get_origin(wanted), get_args(wanted)
    if origin in (Union, types.UnionType):
        return " or ".join(describe_type(kind, value) for kind in inside)
    if wanted is float and isinstance(value, int | float) and not isinstance(value, bool):
        return "a finite number"
    if wanted is int and isinstance(value, int) and not isinstance(value, bool):
        return "an int below 2^63"
    if origin is Literal:
        # YAML reads a bare off or no as false, and on or yes as true
        is_read_so = isinstance(value, bool) and "off" in inside
        remedy = "; in a YAML write 'on' and 'off' quoted" if is_read_so else ""
        return f"one of {', '.join(map(str, inside))}{remedy}"
    if origin is Callable or wanted is Callable:
        return "a choice"
    if origin is tuple:
        return f"a list of {len(inside)} values, each {describe_type(inside[-1])}"
    if inside:
        several = describe_several(inside[-1])
        return f"{several} by name" if origin is dict else f"a list of {several}"
    words = {int: "an int", float: "a number", bool: "true or false", str: "a string", type(None): "null"}
    return words.get(wanted, str(wanted))


PLURALS = {"an int": "ints", "a number": "numbers", "a string": "strings", "a choice": "choices"}


def describe_several(wanted: Any) -> str:
    """Return several values of an annotated type in words."""
    words = describe_type(wanted)
    if words.startswith("a list of "):
        return words.replace("a list", "lists", 1)
    return PLURALS.get(words, f"values, each {words}")
