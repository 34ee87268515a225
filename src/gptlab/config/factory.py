"""From a choice's plain config to a factory: the class or function that it names, with its knobs. No hydra."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, get_args, get_origin

from gptlab.config.recipe import KNOB_SLOTS, LISTS
from gptlab.config.typecheck import conforms, describe, shown, unknown
from gptlab.errors import Refused

ALLOWED = ("gptlab.", "torch.nn.", "torch.optim.")
"""Where a config, which may come from a stranger, may point."""
PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Factory:
    """A target and its knobs; the parent calls it with the sizes. What it refuses is told with the knob's full path."""

    path: str
    target: Callable[..., Any]
    knobs: dict[str, Any]

    def __call__(self, *sizes: Any, **more: Any) -> Any:
        return self.telling(self.target, *sizes, **{**self.knobs, **more})

    def telling(self, act: Callable[..., Any], *args: Any, **more: Any) -> Any:
        """What acting gives, for the target and for what it made."""
        try:
            return act(*args, **more)
        except (ValueError, RuntimeError) as error:
            raise Refused(self._told(error)) from error

    def _told(self, error: Exception) -> str:
        line = (str(error) or type(error).__name__).splitlines()[0]
        if line.split("=")[0].split(".")[0] in self.knobs:
            return f"{self.path}.{line}"
        return line if "=" in line or isinstance(error, Refused) else f"{self.path}: {line}"


def locate(target: str, path: str) -> Callable[..., Any]:
    """The class or function that a `_target_` names; what a module only borrowed from elsewhere counts as there."""
    named = f"{path}._target_={target}"
    if not str(target).startswith(ALLOWED):
        raise Refused(f"{named} lies outside {', '.join(ALLOWED)}")
    module, _, name = target.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise Refused(f"{named} cannot be imported: {error}") from error
    if not inspect.isclass(found) and not inspect.isfunction(found):
        raise Refused(f"{named} is no class or function")
    if not f"{found.__module__}.".startswith(ALLOWED):
        raise Refused(f"{named} is {found.__module__}.{name}, which lies outside {', '.join(ALLOWED)}")
    slot, *knobs = path.split(".")
    inside = KNOB_SLOTS if len(knobs) > (slot in LISTS) else []  # a knob may be a choice of another menu
    contracts = [one for one in map(_contract, (slot, *inside)) if one is not None]
    if contracts and inspect.isclass(found) and not issubclass(found, tuple(contracts)):
        raise Refused(f"{named} is no {contracts[0].__name__}; take one of {contracts[0].__module__}")
    return found


@cache
def find_slot_package(slot: str) -> str:
    """Return the dotted name of the package that holds the choices of a slot: the one that is called like the slot."""
    (init,) = PACKAGE.rglob(f"{slot}/__init__.py")
    return ".".join((PACKAGE.name, *init.parent.relative_to(PACKAGE).parts))


def _contract(slot: str) -> type | None:
    """The class that the choices of a slot extend, if it has one."""
    return getattr(import_module(find_slot_package(slot)), slot.capitalize(), None)


def factory(node: dict[str, Any], path: str) -> Factory:
    """The factory of a choice, with those nested in it."""
    return Factory(path, locate(node["_target_"], path), {key: _made(node[key], f"{path}.{key}") for key in own(node)})


def own(node: dict[str, Any]) -> list[str]:
    """The keys of a choice that are knobs."""
    return [key for key in node if key not in ("_target_", "_partial_")]


def _made(value: Any, path: str) -> Any:
    if isinstance(value, dict) and "_target_" in value:
        return factory(value, path)
    if isinstance(value, dict):
        return {key: _made(one, f"{path}.{key}") for key, one in value.items()}
    return list(value) if isinstance(value, list) else value


def knobs(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The keyword-only parameters of a class or function, with their annotations evaluated."""
    signature = inspect.signature(target, eval_str=True)
    return {name: p for name, p in signature.parameters.items() if p.kind is p.KEYWORD_ONLY}


def check_node(node: Any, path: str) -> Iterator[str]:
    """What is wrong with a choice: its target, its keys, their types; nested choices too."""
    if not isinstance(node, dict) or "_target_" not in node:
        yield f"{path}={shown(node)} is not a choice; run with --help to see the choices"
        return
    if node.get("_partial_") is not True:
        yield f"{path}._partial_={shown(node.get('_partial_'))} must be true: the sizes come later"
    try:
        wanted = knobs(locate(node["_target_"], path))
    except Refused as refused:
        yield str(refused)
        return
    yield from (unknown(f"{path}.{key}", list(wanted), f"{path}.") for key in own(node) if key not in wanted)
    for key, parameter in wanted.items():
        if key not in node:
            yield f"{path}.{key}: no value given"
        elif not conforms(node[key], parameter.annotation):
            said = f"{path}.{key}={shown(node[key])} is not {describe(parameter.annotation, node[key])}"
            menu = _menu(parameter.annotation) if isinstance(node[key], str) else None
            yield f"{said}; say {menu}@{path}.{key}={node[key]}" if menu else said
        else:
            yield from _check_nested(node[key], f"{path}.{key}")


def _menu(wanted: Any) -> str | None:
    """The menu from which an annotated knob is chosen, if it is."""
    makes = [one for one in (wanted, *get_args(wanted)) if get_origin(one) is Callable]
    return get_args(makes[0])[1].__name__.lower() if makes else None


def _check_nested(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict) and "_target_" in value:
        yield from check_node(value, path)
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _check_nested(one, f"{path}.{key}")
