"""The command line to a checked recipe, and errors to one line. The only file that imports hydra."""

import io
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from gptlab.build import build as build
from gptlab.build import check as check
from gptlab.build import decoder as decoder
from gptlab.config.hydra_messages import listed, no_key, no_package, shortened, study_keys, twice, unreadable_yaml
from gptlab.config.menu import CONF
from gptlab.config.recipe import COSMETIC, LISTS, UNNAMED, Recipe, check_settings, flat
from gptlab.config.resolvers import RESOLVERS
from gptlab.config.typecheck import shown
from gptlab.corpus.data import seen_from
from gptlab.errors import Ended, Refused
from gptlab.runs.record import check_writable, read_json, read_unfinished_recipe

FULL_ERROR = os.environ.get("HYDRA_FULL_ERROR") == "1"
"""Asked for at the start, before `one_line` sets it for hydra."""

for resolver in RESOLVERS:
    OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)


# -- composed config to recipe


def compose(overrides: list[str], config_name: str = "train") -> Recipe:
    """The recipe of command-line overrides, unchecked."""
    with one_line(overrides), _initialized():
        config = compose_config(config_name, overrides, whole=True)
        made, first = _recipe(config, overrides, config_name)
        return _named(made, overrides, config_name, first)


SEARCHED: list[str] = []
"""Folders of the command line's hydra.searchpath, which each further composition must look in too."""


def keep_searchpath(hydra: Any) -> None:
    """Remember where hydra was told to look for YAMLs."""
    SEARCHED[:] = [str(folder) for folder in hydra.searchpath]


def compose_config(config_name: str, overrides: list[str], *, whole: bool = False) -> DictConfig:
    """Compose as hydra does; a `whole` config has hydra's own part too."""
    also = [f"hydra.searchpath={shown(SEARCHED)}"] if SEARCHED else []
    return hydra_compose(config_name, [*also, *overrides], return_hydra_config=whole)


@contextmanager
def _initialized() -> Iterator[None]:
    if GlobalHydra.instance().is_initialized():
        yield
    else:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            yield


def recipe(config: DictConfig) -> Recipe:
    """The checked recipe of a config that @hydra.main composed."""
    hydra = HydraConfig.get()
    keep_searchpath(hydra)
    overrides = OmegaConf.to_container(hydra.overrides.task, resolve=False)  # a${b} stays what was typed
    assert isinstance(overrides, list)
    config_name = str(hydra.job.config_name)
    made, first = _recipe(OmegaConf.merge({"hydra": hydra}, config), overrides, config_name)
    wrong = check_settings(made.config)
    if not wrong and made.config["resume"] not in (None, "auto"):
        made = _resumed(made, overrides)
    if wrong := wrong or check_writable(Path(made.config["outputs"])) or check(made):
        raise Refused("\nerror: ".join(wrong))
    return made if made.config["resume"] not in (None, "auto") else _named(made, overrides, config_name, first)


def _resumed(made: Recipe, overrides: list[str]) -> Recipe:
    """The recipe of the run folder to go on with. Overrides beside `resume` may only repeat what it was."""
    folder = Path(made.config["resume"])
    saved = read_unfinished_recipe(folder)
    given = {o.key_or_group.split(".")[0] for o in OverridesParser.create().parse_overrides(overrides)}
    if given - {*COSMETIC}:
        here, there = flat(made.config), flat(saved.config)
        keys = [k for k in {**there, **here} if here.get(k) != there.get(k) and k.split(".")[0] not in COSMETIC]
        if keys:
            told = ", ".join(f"{k} ({there.get(k)} there, {here.get(k)} here)" for k in keys[:4])
            told += f" and {len(keys) - 4} more" if len(keys) > 4 else ""
            raise Refused(f"resume={folder} is a run of another config: {told}; say resume={folder} alone")
    kept = {key: made.config[key] if key in given else saved.config[key] for key in COSMETIC}
    kept |= {"resume": str(folder), "outputs": str(folder.absolute().parents[1])}
    began = read_json(folder / "run.json")["cwd"]
    files = {slot: seen_from(began, saved.config[slot]) for slot in ("data", "tokenizer")}
    return Recipe({**saved.config, **kept, **files}, saved.choices, saved.differs)


def _recipe(config: Any, overrides: list[str], config_name: str) -> tuple[Recipe, list[str]]:
    """The recipe, and the overrides that a checkpoint to start from stands for."""
    _refuse_added_keys(overrides, config_name)
    first: list[str] = []
    if config.get("pretrained"):
        first = _stands_for(config, overrides, config_name)
        config = compose_config(config_name, [*first, *overrides], whole=True)
    plain = resolved(config)
    plain.setdefault("metric", {})  # metric=[] leaves no trace
    if line := no_package(plain, overrides) or (study_keys(plain) if config_name == "train" else None):
        raise Refused(line)
    return Recipe(plain, _choices(config)), first


def _stands_for(config: Any, overrides: list[str], config_name: str) -> list[str]:
    """What the checkpoint's own config says, in the words of the command line, as far as nothing else was said."""
    from gptlab.weights.pretrained import words

    given = {str(one.key_or_group) for one in OverridesParser.create().parse_overrides(overrides)}
    slots, knobs = words(_resolved(config, "pretrained"), given)
    there = compose_config(config_name, [*slots, *overrides])
    kept = [word for key, word in knobs.items() if OmegaConf.select(there, key, default=MISSING) is not MISSING]
    return [*(one for one in overrides if one.startswith("pretrained")), *slots, *kept]


def _named(made: Recipe, overrides: list[str], config_name: str, first: list[str]) -> Recipe:
    differs = _differs(made.config, made.choices, overrides, config_name, first)
    name = made.config["pretrained"]["path"].rstrip("/").rpartition("/")[2] if first else made.choices["model"]
    return replace(made, choices={**made.choices, "model": name}, differs=differs)


def resolved(config: DictConfig) -> dict[str, Any]:
    """The config as plain data, without hydra's own part; missing values and broken references are refused."""
    plain = {}
    for key in config:
        if key != "hydra":
            plain[str(key)] = _resolved(config, str(key))
    return plain


def _resolved(config: DictConfig, key: str) -> Any:
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
    """Every key has a default in conf/, so a key that `+` would add is a typing error; so is a choice named twice."""
    if line := twice(overrides) or listed(overrides):
        raise Refused(line)
    parsed = OverridesParser.create().parse_overrides(overrides)
    added = [o for o in parsed if o.is_add() or o.is_force_add() if not str(o.key_or_group).startswith("hydra")]
    inside = tuple(f"{one.package}." for one in added if one.package)  # knobs of a choice that is added
    rest = [str(o.input_line) for o in parsed if o not in added and not str(o.key_or_group).startswith(inside)]
    known = _composed(rest, config_name)[1] if added else {}
    for one in added:
        key = str(one.key_or_group)
        open_to = one.package and known.get(one.package.rpartition(".")[0]) == {}  # any name, as in kinds
        if not open_to and not any(name == key or name.startswith(f"{key}.") for name in known):
            raise Refused(no_key(key, known))


def _differs(plain: dict, choices: dict, overrides: list[str], config_name: str, first: list[str]) -> tuple[str, ...]:
    """What sets a recipe apart from the defaults, or from a checkpoint as it is, in the words of the command line:
    choices, then the knobs asked for; those that only follow from others are left out."""
    asked = {str(one.key_or_group) for one in OverridesParser.create().parse_overrides(overrides)}
    named = [*first, *(f"{key}={choices[key]}" for key in ("model", "experiment") if choices.get(key))]
    usual_choices, _ = _usual(tuple(named), config_name)
    chosen = {k: v for k, v in choices.items() if v != usual_choices.get(k) and isinstance(v, str)}
    words = [f"{k}=[{v.replace('+', ',')}]" if k in LISTS else f"{k}={v}" for k, v in chosen.items()]
    _, usual = _usual((*named, *(f"+{one}" if f"+{one}" in overrides else one for one in words)), config_name)
    knobs = [
        f"{key.rpartition('.')[2]}={value if isinstance(value, str) else shown(value)}"
        for key, value in flat(plain).items()
        if usual.get(key) != value and key in asked and not key.startswith(UNNAMED)
    ]
    recipe = [choices["experiment"]] if choices.get("experiment") else []
    return (*recipe, *(v for k, v in chosen.items() if k not in UNNAMED), *knobs)


@cache
def _usual(overrides: tuple[str, ...], config_name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Composed once: the arms of a study share it."""
    return _composed([*overrides], config_name)


MISSING = object()


def composed(overrides: list[str], config_name: str = "train") -> tuple[dict[str, Any], dict[str, Any]]:
    """The choices by slot, and the resolved config, of overrides."""
    with one_line(overrides), _initialized():
        config = compose_config(config_name, overrides, whole=True)
        return _choices(config), resolved(config)


def _composed(overrides: list[str], config_name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    choices, config = composed(overrides, config_name)
    return choices, flat(config)


def _choices(config: DictConfig) -> dict[str, Any]:
    lists = {slot: "+".join(config[slot]) or None for slot in ("change", "callback")}  # hydra leaves lists out
    chosen = {**lists, **config.hydra.runtime.choices}
    return {str(slot): choice for slot, choice in chosen.items() if not str(slot).startswith("hydra/")}


# -- errors in one line


@contextmanager
def one_line(overrides: list[str] | None = None) -> Iterator[None]:
    """Turns what hydra and omegaconf raise inside into Refused with one line; HYDRA_FULL_ERROR=1 asks for all."""
    asked = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else hydra prints and exits by itself
    try:
        yield
    except yaml.YAMLError as error:
        if FULL_ERROR:
            raise
        raise Refused(unreadable_yaml(error)) from error
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        line = shortened(error, sys.argv[1:] if overrides is None else overrides, _known)
        if FULL_ERROR or line is None:
            raise
        raise Refused(line) from error
    finally:
        os.environ.pop("HYDRA_FULL_ERROR")
        if asked is not None:
            os.environ["HYDRA_FULL_ERROR"] = asked


def _known(choices: list[str]) -> Iterable[str]:
    GlobalHydra.instance().clear()
    program = "ablate" if Path(sys.argv[0]).stem == "ablate" else "train"
    with _initialized():
        return flat(OmegaConf.to_container(compose_config(program, choices)))


@contextmanager
def entry() -> Iterator[None]:
    """Around a whole program: errors in one line on stderr, exit status 2 for what was refused."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal of another encoding loses a character, and no results
    try:
        with one_line():
            yield
    except (Refused, Ended) as error:
        if FULL_ERROR:
            raise
        status = error.status if isinstance(error, Ended) else 2
        print(error if status > 128 else f"error: {error}", file=sys.stderr)  # to stop a run is no error
        sys.exit(status)
    except BrokenPipeError:  # whoever read the output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        if FULL_ERROR:
            raise
        reason = error.strerror or str(error).strip() or type(error).__name__
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{' '.join(reason.split())}; check that path and its rights", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
