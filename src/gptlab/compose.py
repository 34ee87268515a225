"""Command line to checked recipe, and errors to one line. The only file that imports hydra."""

import os
import signal
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from gptlab import errors
from gptlab.config import hydra_messages
from gptlab.config.broken_packages import warn_of_broken_packages
from gptlab.config.command_line import (
    let_hydra_raise,
    put_options_first,
    refuse_bad_options,
    refuse_missing_package,
    wants_full_error,
)
from gptlab.config.menu import CONF, select_choices_that_reach
from gptlab.config.recipe import KEYS_NOT_IN_NAME, LISTS, Recipe, check_settings, flatten
from gptlab.config.resolvers import RESOLVERS
from gptlab.config.typecheck import format_value
from gptlab.config.variant_packages import register_searched
from gptlab.console.json_answer import add_to_answer, answer_in_json
from gptlab.console.terminal import prepare_streams
from gptlab.corpus.content import stamp_content
from gptlab.errors import Ended, Refused, describe_os_error, escape_controls
from gptlab.runs.outputs import OF_RUNS, check_writable
from gptlab.runs.resume import name_choices as name_choices
from gptlab.runs.resume import resume_recipe
from gptlab.training.build import build_decoder as build_decoder
from gptlab.training.check import check_recipe as check_recipe

FULL_ERROR = wants_full_error()
"""Asked for at the start, before `errors_in_one_line` sets it for hydra."""
MISSING = object()

for resolver in RESOLVERS:
    OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)


def read_command_line(program: str) -> list[str]:
    """Return the words of the command line, options first; refuse options that hydra does not take."""
    refuse_bad_options(get_args_parser(), sys.argv[1:], program)
    warn_of_broken_packages()
    return put_options_first(sys.argv[1:])


# -- composed config to recipe


def compose(overrides: list[str], config_name: str = "train") -> Recipe:
    """Return the recipe of command-line overrides, unchecked."""
    with errors_in_one_line(overrides), _hydra_initialized():
        config = compose_with_hydra(config_name, overrides, whole=True)
        recipe, implied = _make_recipe(config, overrides, config_name)
        return _name_recipe(recipe, overrides, config_name, implied)


SEARCHED: list[str] = []
"""Folders of the command line's hydra.searchpath, which each further composition must look in too."""


def keep_searchpath(hydra: Any) -> None:
    """Remember where hydra was told to look for YAMLs; who names pkg://mypackage.conf there registers mypackage."""
    SEARCHED[:] = [str(folder) for folder in hydra.searchpath]
    register_searched(SEARCHED)
    warn_of_broken_packages()


def compose_with_hydra(config_name: str, overrides: list[str], *, whole: bool = False) -> DictConfig:
    """Compose as hydra does; a `whole` config has hydra's own part too."""
    also = [f"hydra.searchpath={format_value(SEARCHED)}"] if SEARCHED else []
    return hydra_compose(config_name, [*also, *overrides], return_hydra_config=whole)


def _hydra_initialized() -> AbstractContextManager[Any]:
    is_done = GlobalHydra.instance().is_initialized()
    return nullcontext() if is_done else initialize_config_dir(str(CONF), version_base="1.3")


def recipe_of_main(config: DictConfig) -> Recipe:
    """Return the checked recipe of a config that @hydra.main composed."""
    hydra = HydraConfig.get()
    keep_searchpath(hydra)
    overrides = OmegaConf.to_container(hydra.overrides.task, resolve=False)  # a${b} stays what was typed
    assert isinstance(overrides, list)
    config_name = str(hydra.job.config_name)
    recipe, implied = _make_recipe(OmegaConf.merge({"hydra": hydra}, config), overrides, config_name)
    problems = hydra_messages.explain_study_keys(map(str, config), overrides) or check_settings(recipe.config)
    if not problems and recipe.config["resume"] not in (None, "auto"):
        given = {str(override.key_or_group) for override in OverridesParser.create().parse_overrides(overrides)}
        recipe = resume_recipe(recipe, given)
    if problems := problems or check_writable(Path(recipe.config["outputs"]), OF_RUNS) or check_recipe(recipe):
        raise Refused("\nerror: ".join(problems))
    if recipe.config["resume"] not in (None, "auto"):
        return recipe
    return _name_recipe(recipe, overrides, config_name, implied)


def _make_recipe(config: Any, overrides: list[str], config_name: str) -> tuple[Recipe, list[str]]:
    """Return the recipe, and the overrides that a checkpoint to start from stands for."""
    _refuse_added_keys(overrides, config_name)
    implied: list[str] = []
    if config.get("pretrained"):
        implied = _overrides_implied_by_checkpoint(config, overrides, config_name)
        config = compose_with_hydra(config_name, [*implied, *overrides], whole=True)
    plain = resolve_config(config)
    plain.setdefault("metric", {})  # metric=[] leaves no trace
    if line := hydra_messages.explain_missing_package(plain, overrides):
        raise Refused(line)
    if config_name == "train":
        plain = {key: value for key, value in plain.items() if key not in hydra_messages.list_study_keys()}
        plain["content"] = stamp_content(plain)
    return Recipe(plain, _read_choices(config)), implied


def _overrides_implied_by_checkpoint(config: Any, overrides: list[str], config_name: str) -> list[str]:
    """Return the checkpoint's own config as overrides, as far as nothing else was said."""
    from gptlab.weights.pretrained import overrides_from_checkpoint

    given = {str(override.key_or_group) for override in OverridesParser.create().parse_overrides(overrides)}
    slots, knobs = overrides_from_checkpoint(_resolve_key(config, "pretrained"), given, adapted="lora" in config.change)
    composed_config = compose_with_hydra(config_name, [*slots, *overrides])
    known_knobs = [
        word for key, word in knobs.items() if OmegaConf.select(composed_config, key, default=MISSING) is not MISSING
    ]
    return [*(override for override in overrides if override.startswith("pretrained")), *slots, *known_knobs]


def _name_recipe(recipe: Recipe, overrides: list[str], config_name: str, implied: list[str]) -> Recipe:
    differs = _describe_differences(recipe.config, recipe.choices, overrides, config_name=config_name, implied=implied)
    name = recipe.config["pretrained"]["path"].rstrip("/").rpartition("/")[2] if implied else recipe.choices["model"]
    return replace(recipe, choices={**recipe.choices, "model": name}, differs=differs)


def resolve_config(config: DictConfig) -> dict[str, Any]:
    """Return the config as plain data, without hydra's own part; refuse missing values and broken references."""
    return {str(key): _resolve_key(config, str(key)) for key in config if key != "hydra"}


def _resolve_key(config: DictConfig, key: str) -> Any:
    try:
        node = config._get_node(key)
        if OmegaConf.is_config(node):
            return OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
        return config[key]
    except OmegaConfBaseException as error:
        path = error.full_key or key
        if isinstance(error, MissingMandatoryValue):
            raise Refused(f"{path}: no value given; say {path}=<value>") from error
        raise Refused(f"{path}: {str(error).splitlines()[0]}; give a value") from error


def _refuse_added_keys(overrides: list[str], config_name: str) -> None:
    """Refuse a key that `+` would add, since every key has a default in conf/, and a choice named twice."""
    if line := hydra_messages.find_duplicate_choice(overrides) or hydra_messages.explain_odd_choice(overrides):
        raise Refused(line)
    parsed = OverridesParser.create().parse_overrides(overrides)
    added = [o for o in parsed if o.is_add() or o.is_force_add() if not str(o.key_or_group).startswith("hydra")]
    inside = tuple(f"{override.package}." for override in added if override.package)  # knobs of a choice that is added
    rest = [str(o.input_line) for o in parsed if o not in added and not str(o.key_or_group).startswith(inside)]
    known = _compose_flat(rest, config_name)[1] if added else {}
    for override in added:
        key = str(override.key_or_group)
        open_to = override.package and known.get(override.package.rpartition(".")[0]) == {}  # any name, as in kinds
        if not open_to and not any(name == key or name.startswith(f"{key}.") for name in known):
            raise Refused(hydra_messages.explain_unknown_key(key, known))


def _describe_differences(
    plain: dict, choices: dict, overrides: list[str], *, config_name: str, implied: list[str]
) -> tuple[str, ...]:
    """Return the overrides by which a recipe differs from the defaults, or from its checkpoint's own config.

    These are choices, then the knobs asked for; those that only follow from others are left out.
    """
    given = {str(override.key_or_group) for override in OverridesParser.create().parse_overrides(overrides)}
    named = [*implied, *(f"{key}={choices[key]}" for key in ("model", "experiment") if choices.get(key))]
    usual_choices, _ = _compose_defaults(tuple(named), config_name)
    chosen = {k: v for k, v in choices.items() if v != usual_choices.get(k) and isinstance(v, str)}
    words = [f"{k}=[{v.replace('+', ',')}]" if k in LISTS else f"{k}={v}" for k, v in chosen.items()]
    values = flatten(plain)
    keys = [key for key in values if key in given and not key.startswith(KEYS_NOT_IN_NAME)]
    words = [f"+{word}" if f"+{word}" in overrides else word for word in words]
    # few, so that the arms of a study share what is composed here: 0.2 s
    words = select_choices_that_reach(words, keys)
    usual = _compose_defaults((*named, *words), config_name)[1] if keys else {}
    knobs = [
        f"{key.rpartition('.')[2]}={values[key] if isinstance(values[key], str) else format_value(values[key])}"
        for key in keys
        if usual.get(key) != values[key]
    ]
    recipe = [choices["experiment"]] if choices.get("experiment") else []
    return (*recipe, *(v for k, v in chosen.items() if k not in KEYS_NOT_IN_NAME), *knobs)


@cache
def _compose_defaults(overrides: tuple[str, ...], config_name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Compose once what the arms of a study share."""
    return _compose_flat([*overrides], config_name)


def compose_config(overrides: list[str], config_name: str = "train") -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the choices by slot, and the resolved config, of overrides."""
    with errors_in_one_line(overrides), _hydra_initialized():
        config = compose_with_hydra(config_name, overrides, whole=True)
        return _read_choices(config), resolve_config(config)


def _compose_flat(overrides: list[str], config_name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    choices, config = compose_config(overrides, config_name)
    return choices, flatten(config)


def _read_choices(config: DictConfig) -> dict[str, Any]:
    lists = {slot: "+".join(config[slot]) or None for slot in ("change", "callback")}  # hydra leaves lists out
    chosen = {**lists, **config.hydra.runtime.choices}
    return {str(slot): choice for slot, choice in chosen.items() if not str(slot).startswith("hydra/")}


# -- errors in one line


@contextmanager
def errors_in_one_line(overrides: list[str] | None = None) -> Iterator[None]:
    """Turn what hydra and omegaconf raise inside into Refused with one line; HYDRA_FULL_ERROR=1 shows it all."""
    try:
        with let_hydra_raise():
            yield
    except yaml.YAMLError as error:
        if FULL_ERROR:
            raise
        raise Refused(hydra_messages.explain_unreadable_yaml(error)) from error
    except (Refused, Ended, BrokenPipeError):
        raise
    except Exception as error:  # hydra's own, and whatever it stumbles with over a YAML of another shape
        line = hydra_messages.explain_hydra_error(
            error, sys.argv[1:] if overrides is None else overrides, _list_known_keys
        )
        if FULL_ERROR or line is None:
            raise
        raise Refused(line) from error


def _list_known_keys(choices: list[str]) -> Iterable[str]:
    GlobalHydra.instance().clear()
    program = "ablate" if Path(sys.argv[0]).stem == "ablate" else "train"
    with _hydra_initialized():
        return flatten(OmegaConf.to_container(compose_with_hydra(program, choices)))


@contextmanager
def program() -> Iterator[None]:
    """Wrap a whole program: errors in one line on stderr, exit status 2 for what was refused; JSON if it is wanted."""
    prepare_streams()
    warnings.filterwarnings("ignore", r".*hydra.searchpath.*\.conf is not available")  # for want of an __init__.py
    with answer_in_json(sys.argv):
        try:
            with errors_in_one_line(), refuse_missing_package(sys.argv[1:]), errors.refuse_out_of_memory(gpu=True):
                errors.refuse_removed_folder()
                yield
        except (Refused, Ended) as error:
            if FULL_ERROR:
                raise
            status = error.status if isinstance(error, Ended) else 2
            _exit_with_line(str(error) if status > 128 else f"error: {error}", status)  # to stop a run is no error
        except BrokenPipeError:  # whoever read the output has gone
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(128 + signal.SIGPIPE)
        except OSError as error:
            if FULL_ERROR:
                raise
            _exit_with_line(f"error: {describe_os_error(error)}", 2)
        except KeyboardInterrupt:
            _exit_with_line("stopped", 130)


def _exit_with_line(text: str, status: int) -> NoReturn:
    lines = "\nerror: ".join(escape_controls(line) for line in text.split("\nerror: "))
    print(lines, file=sys.stderr)
    add_to_answer(error=lines.removeprefix("error: "))
    sys.exit(status)
