"""Choice to factory: the class or function that a plain config names, with its knobs. No hydra."""

import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module, util
from pathlib import Path
from typing import Any, get_args, get_origin

from gptlab.config.recipe import KNOB_SLOTS, LISTS
from gptlab.config.typecheck import conforms, describe_type, explain_unknown, format_value
from gptlab.config.variant_packages import list_variant_packages
from gptlab.errors import Refused

ALLOWED = ("gptlab.", "torch.nn.", "torch.optim.")
"""Packages into which a config, which may come from a stranger, may point; so may it into registered ones."""
PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Factory:
    """A target and its knobs; the parent calls it with the sizes. Its errors name the config path of the knob."""

    path: str
    target: Callable[..., Any]
    knobs: dict[str, Any]

    def __call__(self, *sizes: Any, **more: Any) -> Any:
        return self.call(self.target, *sizes, **{**self.knobs, **more})

    def call(self, act: Callable[..., Any], *args: Any, **more: Any) -> Any:
        """Call `act(*args)`; re-raise ValueError and RuntimeError as Refused, prefixed with the config path."""
        try:
            return act(*args, **more)
        except (ValueError, RuntimeError) as error:
            raise Refused(self._explain(error)) from error

    def _explain(self, error: Exception) -> str:
        line = (str(error) or type(error).__name__).splitlines()[0]
        # a part names its knob alone, `kv_heads=3 ...`; only here its path in the config is known
        if line.split("=")[0].split(".")[0] in self.knobs:
            return f"{self.path}.{line}"
        return line if "=" in line or isinstance(error, Refused) else f"{self.path}: {line}"


def locate(target: str, path: str) -> Callable[..., Any]:
    """Return the class or function that a `_target_` names.

    A name that its module only imports counts where it is defined.
    """
    setting = f"{path}._target_={target}"
    # before anything is imported: an import runs code
    allowed = (*ALLOWED, *(f"{package.name}." for package in list_variant_packages()))
    if not str(target).startswith(allowed):
        raise Refused(f"{setting} lies outside {', '.join(allowed)}{_explain_registration(str(target))}")
    module, _, name = target.rpartition(".")
    try:
        target_object = getattr(import_module(module), name)
    except (Exception, SystemExit) as error:  # a package of one's own may fail in any way, or end the program
        if not isinstance(error, ImportError | AttributeError) and module.startswith(ALLOWED):
            raise
        reason = " ".join(str(error).split())
        reason = f"it ends the program (sys.exit: {reason})" if isinstance(error, SystemExit) else reason
        raise Refused(f"{setting} cannot be imported: {reason or type(error).__name__}") from error
    if not inspect.isclass(target_object) and not inspect.isfunction(target_object):
        raise Refused(f"{setting} is no class or function")
    # a module of ours imports names from elsewhere, which must not be a way around
    if not f"{target_object.__module__}.".startswith(allowed):
        raise Refused(f"{setting} is {target_object.__module__}.{name}, which lies outside {', '.join(allowed)}")
    slot, *knobs = path.split(".")
    inside = KNOB_SLOTS if len(knobs) > (slot in LISTS) else []  # a knob may be a choice of another menu
    contracts = [contract for contract in map(_find_contract, (slot, *inside)) if contract is not None]
    if contracts and inspect.isclass(target_object) and not issubclass(target_object, tuple(contracts)):
        raise Refused(f"{setting} is no {contracts[0].__name__}; take one of {contracts[0].__module__}")
    return target_object


def _explain_registration(target: str) -> str:
    """Return the remedy for a class of a package that is here and not registered; nothing for any other."""
    package = target.partition(".")[0]
    if package in sys.stdlib_module_names or not package.isidentifier() or util.find_spec(package) is None:
        return ""
    return f"; if you trust {package}, {REGISTER.format(package)}"


REGISTER = "install it with an entry point gptlab.variants, or set GPTLAB_VARIANTS={}"


@cache
def find_slot_package(slot: str) -> str:
    """Return the dotted name of the package that holds the choices of a slot: the one that is called like the slot."""
    # exactly one: two packages of a name would be a fault of the tree
    (init,) = PACKAGE.rglob(f"{slot}/__init__.py")
    return ".".join((PACKAGE.name, *init.parent.relative_to(PACKAGE).parts))


def _find_contract(slot: str) -> type | None:
    """Return the class that the choices of a slot extend, if it has one."""
    return getattr(import_module(find_slot_package(slot)), slot.capitalize(), None)


def factory(node: dict[str, Any], path: str) -> Factory:
    """Return the factory of a choice, with those nested in it."""
    target = locate(node["_target_"], path)
    return Factory(path, target, {key: _make_value(node[key], f"{path}.{key}") for key in list_knobs(node)})


def list_knobs(node: dict[str, Any]) -> list[str]:
    """Return the keys of a choice that are knobs."""
    return [key for key in node if key not in ("_target_", "_partial_")]


def _make_value(value: Any, path: str) -> Any:
    if isinstance(value, dict) and "_target_" in value:
        return factory(value, path)
    if isinstance(value, dict):
        return {key: _make_value(item, f"{path}.{key}") for key, item in value.items()}
    return list(value) if isinstance(value, list) else value


def read_knobs(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the keyword-only parameters of a class or function, with their annotations evaluated."""
    # evaluated, since annotations are the schema that values are held against
    signature = inspect.signature(target, eval_str=True)
    # keyword-only are the knobs; what comes by position the parent gives
    return {name: p for name, p in signature.parameters.items() if p.kind is p.KEYWORD_ONLY}


def check_node(node: Any, path: str) -> Iterator[str]:
    """Yield what is wrong with a choice: its target, its keys, their types; nested choices too."""
    if not isinstance(node, dict) or "_target_" not in node:
        yield f"{path}={format_value(node)} is not a choice; run with --help to see the choices"
        return
    if node.get("_partial_") is not True:
        yield f"{path}._partial_={format_value(node.get('_partial_'))} must be true: the sizes come later"
    try:
        declared = read_knobs(locate(node["_target_"], path))
    except Refused as refused:
        yield str(refused)
        return
    for key in list_knobs(node):
        if key not in declared:
            yield explain_unknown(f"{path}.{key}", list(declared), f"{path}.")
    for key, parameter in declared.items():
        if key not in node:
            yield f"{path}.{key}: no value given"
        elif not conforms(node[key], parameter.annotation):
            problem = f"{path}.{key}={format_value(node[key])} is not {describe_type(parameter.annotation, node[key])}"
            slot = _find_knob_slot(parameter.annotation) if isinstance(node[key], str) else None
            yield f"{problem}; say {slot}@{path}.{key}={node[key]}" if slot else problem
        else:
            yield from _check_nested(node[key], f"{path}.{key}")


def _find_knob_slot(wanted: Any) -> str | None:
    """Return the slot from which an annotated knob is chosen, if there is one."""
    # a knob annotated Callable[..., Format] is chosen from the slot `format`
    makes = [annotation for annotation in (wanted, *get_args(wanted)) if get_origin(annotation) is Callable]
    return get_args(makes[0])[1].__name__.lower() if makes else None


def _check_nested(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict) and "_target_" in value:
        yield from check_node(value, path)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _check_nested(item, f"{path}.{key}")
