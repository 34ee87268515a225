"""Hydra's errors in one line that names the key and the remedy. Imports no hydra."""

import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from gptlab.config.menu import CONF, list_choices
from gptlab.config.recipe import LISTS, OPTIONAL_SLOTS, SLOTS
from gptlab.config.typecheck import explain_unknown

ListKnownKeys = Callable[[list[str]], Iterable[str]]
"""Lists all keys that exist with some choices."""


def explain_hydra_error(error: Exception, overrides: list[str], known: ListKnownKeys) -> str | None:
    """Return hydra's error in one line with the remedy; None if it is not hydra's."""
    message = str(error)
    is_of_hydra = type(error).__module__.split(".")[0] in HYDRA
    if message.startswith("Only one of --run, --multirun, --cfg"):
        if {"-m", "--multirun"} & {*overrides} and any(word.startswith(("-c", "--cfg")) for word in overrides):
            return NO_PRINT
        return "--run, --multirun, --cfg, --info and --shell-completion exclude each other; keep one of them"
    # ours or Python's: a traceback is right where the fault is in this code
    if not is_of_hydra and not _is_raised_in_hydra(error):
        return None
    if "" in overrides:
        return "'' is no override but an empty word, as of a shell variable that is not set; write key=value"
    if nameless := next((override for override in overrides if override.startswith("=")), ""):
        return _explain_unreadable(nameless)
    if line := explain_odd_choice(overrides):
        return line
    if "maximum recursion depth" in message:
        return "a YAML holds itself, by an anchor (&) and its alias (*); write out what is meant"
    if isinstance(error, UnicodeDecodeError):
        return f"a YAML is not UTF-8: byte 0x{error.object[error.start]:02x} at offset {error.start}; save it as UTF-8"
    if not is_of_hydra:  # one of people's own folders has names too, which are not in this menu
        odd = [word for word in overrides if not re.fullmatch(r"[+~]*\w+=\[?(?!null$)[A-Za-z]\w*.*", word)]
        odd = [word for word in odd if word.partition("=")[0] not in (*OPTIONAL_SLOTS, "experiment")]
        if line := next(_find_missing_options([word for word in odd if "=" in word]), ""):
            return line
    if override := getattr(error, "override", None):
        return _explain_unreadable(override)
    if match := re.search(r"Could not override '([^']*)'|Could not delete from config. '([^']*)' does not", message):
        return _explain_missing_key(match[1] or match[2], overrides, known)
    # hydra's own words, as of 1.3: a version that says it otherwise is quoted whole, below
    for pattern, explain in EXPLANATIONS.items():
        if match := re.search(pattern, message):
            printed = "Ambiguous" in pattern and any(word in ("-c", "--cfg") for word in overrides)
            return f"{match[1]}: {NO_PRINT}" if printed else explain(match[1])
    return " ".join(message.split())


HYDRA = ("hydra", "omegaconf", "antlr4")


def _is_raised_in_hydra(error: Exception) -> bool:
    """Return whether hydra stumbled over what it was given, as over a YAML of another shape."""
    if isinstance(error, OSError) and error.errno:  # which names its file itself
        return False
    modules = [str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__)]
    # the innermost frame outside the standard library says who stumbled
    packages = [name.split(".")[0] for name in modules if name.split(".")[0] not in sys.stdlib_module_names]
    return packages[-1:] != [] and packages[-1] in HYDRA


def _explain_unreadable(override: str) -> str:
    """Return the line for an override that hydra's grammar does not take."""
    key, equals, value = override.partition("=")
    if not equals or not key:
        return f"{override!r} is not an override; write key=value"
    if key.lstrip("+").startswith("arms."):  # ablate.py quotes what it holds before hydra reads it
        return f"{override}: arms are of a study and not of a run; say python ablate.py {override}"
    if inside := re.search(r"(?<=[\[,{:])\s*(\w[\w.@/]*=[^\],}]*)", value):
        return f'{override} cannot be read; quote each override in it for hydra too, as in ["{inside[1]}"]'
    if override[0] in "\"'" or override != override.strip() or key != key.strip():
        bare = f"{key.strip()}={value.strip()}".strip("\"'")
        return f"{override} cannot be read; leave out quotes and blanks around it: {bare}"
    if value.startswith("~"):  # no shell expands it behind a key, and a text would make a folder of that name
        path = os.path.expanduser(value)
        remedy = f"{key}={path}" if path != value else "the system knows no such home"
        return f"{override} cannot be read; write the path out: {remedy}"
    escaped = value.replace('"', '\\"')
    quoted = shlex.quote(f'{key}="{escaped}"')
    return f"{override} cannot be read; if the value is a text, quote it for hydra too: {quoted}"


def _find_missing_options(overrides: list[str]) -> Iterator[str]:
    for group, _, value in (override.lstrip("+~").partition("=") for override in overrides):
        names = [name.strip() for name in value.strip("[]").split(",")] if group in LISTS else [value]
        for name in names:
            if re.fullmatch(r"\w+(/\w+)?", group) and (CONF / group).is_dir() and name not in list_choices(group):
                yield _explain_missing_option(f"{group}/{name}")


def _explain_missing_option(choice: str) -> str:
    """Return the line for a choice, as slot/name, that is not in the menu."""
    group, _, option = choice.rpartition("/")
    if group == "tracking" and option == os.environ.get("WANDB_MODE"):
        return f"WANDB_MODE={option}: no such way of tracking; set it to one of {', '.join(list_choices(group))}"
    if group == "hydra/launcher" and (extra := LAUNCHERS.get(option)):
        return f"{group}={option}: its plugin is not installed; run: pip install 'gptlab[{extra}]'"
    if group == "hydra/sweeper":
        return f"{group}={option}: a study has its own; leave it out, and say design=search for a search by optuna"
    if group.startswith("experiment/"):
        slot = group.partition("/")[2]
        return f"a recipe's defaults choose by `override /{slot}: {option}`, and not by `{slot}: {option}`"
    choices = list_choices(group)
    if group == "hydra/launcher" and not choices:
        choices = [*LAUNCHERS]
    known = f"; choose from {', '.join(choices)}" if choices else ""
    return f"{group}={option}: no such option{known}"


def explain_odd_choice(overrides: list[str]) -> str | None:
    """Return the line for a list where a slot takes one choice, and for a file in place of a choice's name."""
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if key not in (*LISTS, "experiment") and key and value.startswith("[") and (CONF / key).is_dir():
            return f"{override}: {key} is one choice and no list; say {key}={value.strip('[]').split(',')[0].strip()}"
        if key and value.endswith(".yaml") and (CONF / key).is_dir():  # hydra takes it, as a choice of another name
            return f"{override}: a choice is a name and no file; say {key}={Path(value).stem}"
    return None


def explain_missing_package(config: dict[str, Any], overrides: list[str]) -> str | None:
    """Return the line for an experiment whose YAML does not say that its keys are those of the whole config."""
    if "experiment" not in config:
        return None
    typed = (word for word in overrides if word.lstrip("+").startswith("experiment="))
    override = next(typed, "experiment")
    return f"{override}: its YAML sets nothing here; begin it with the line: # @package _global_"


@cache
def list_study_keys() -> frozenset[str]:
    """Return the keys of ablate.yaml that are settings of a study, and not of its runs."""
    of_studies, of_runs = (yaml.safe_load((CONF / name).read_text(encoding="utf-8")) for name in STUDY_AND_RUN)
    return frozenset(of_studies.keys() - of_runs.keys() - {"defaults", "hydra", "cell", *SLOTS})


STUDY_AND_RUN = ("ablate.yaml", "train.yaml")


def explain_study_keys(keys: Iterable[str], overrides: list[str]) -> list[str]:
    """Return the line for a study's settings that a YAML gives to a run, if it does."""
    given = [key for key in keys if key in list_study_keys()]
    recipe = next((word for word in overrides if word.startswith("experiment=")), "")
    line = f"{', '.join(given)}: of a study and not of a run; say python ablate.py {recipe}".rstrip()
    return [line] if given else []


def explain_unreadable_yaml(error: yaml.YAMLError) -> str:
    """Return the line for a file that is no YAML."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    where = f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}" if mark else getattr(error, "name", "a file")
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error).splitlines()[0]
    return f"{where}: no YAML: {' '.join(str(problem).split())}; mend that line"


def _explain_missing_key(key: str, overrides: list[str], known: ListKnownKeys) -> str:
    """Return the line for a key that is not in the config, with those near to it."""
    if re.fullmatch(r"\w+", key) and (CONF / key).is_dir():
        return f"{key}: nothing here takes it by itself; python -m gptlab explain {key} says what it is"
    words = [override.partition("=") for override in overrides]
    if key == "output":  # its two values are taken out of the command line before hydra reads it
        given = {name: value for name, _, value in words}
        return f"output={given.get(key, '')} is not one of json, text"
    chosen = [f"{slot}={choice}" for slot, _, choice in words if choice in list_choices(slot) or slot in LISTS]
    others = [word for word in chosen if not word.startswith(f"{key}=")]
    return explain_unknown_key(key, known(others))


def find_duplicate_choice(overrides: list[str]) -> str | None:
    """Return the line for a list that names a choice more than once, of which hydra would take one."""
    for override in overrides:
        slot, _, listed = override.partition("=")
        names = [name.strip() for name in listed.strip("[]").split(",")]
        if slot in LISTS and len({*names}) < len(names):
            return f"{override} names a choice twice; name each once"
    return None


def explain_unknown_key(key: str, known: Iterable[str]) -> str:
    """Return the line for an unknown key, with those that stand beside it."""
    key = key.rpartition("@")[2]
    path = f"{key.rpartition('.')[0]}." if "." in key else ""
    known = list(known)
    slot, _, choice = path.rstrip(".").partition(".")
    if slot in LISTS and choice and not any(name.startswith(path) for name in known):
        listed = f"{choice} is not in the list; say {slot}=[{choice}]"
        return f"{key}: {listed}" if choice in list_choices(slot) else _explain_missing_option(f"{slot}/{choice}")
    # the keys of the same group: a hint at another depth would mislead
    beside = {name.removeprefix(path).split(".")[0] for name in known if name.startswith(path)}
    if not beside:
        # the group itself does not exist: say so of the group
        return explain_unknown_key(path.rstrip("."), known)
    # the same name at another depth, as lr for optimizer.lr
    elsewhere = sorted(name for name in known if name.endswith(f".{key}")) if not path else []
    if elsewhere:
        return f"{key}: no such key; did you mean {' or '.join(elsewhere[:3])}?"
    return explain_unknown(key, sorted(name for name in beside if not name.startswith("_")), path)


def explain_missing_config_path(folder: str) -> str:
    """Return the line for a --config-path that is not there."""
    return f"--config-path={folder} is no folder; leave it out, and add one of your own by --config-dir=FOLDER"


LAUNCHERS = {"joblib": "parallel", "submitit_local": "parallel", "submitit_slurm": "parallel", "ray": "ray"}
"""Hydra's launchers that are packages of their own, and our extras that bring them."""
NO_PRINT = "-c prints one config, and these are several; give one value each, or dry_run=true for a study's plan"


def _no_sweep(given: str) -> str:
    if "interval(" in given:
        return f"{given}: an interval has no points to take; list values, or give range(start, stop, step)"
    return f"{given}: several values make a sweep; add -m"


EXPLANATIONS: dict[str, Callable[[str], str]] = {
    r"Cannot find primary config '([^']*)'": lambda name: (
        f"--config-name={name}: no such config; leave it out, and choose a recipe by experiment=NAME"
    ),
    r"(?s)Primary config directory not found.*directory '([^']*)'": explain_missing_config_path,
    r"Additional config directory '([^']*)' not found": lambda folder: (
        f"--config-dir={folder} is no folder; give one that holds a folder for each slot, as experiment/own.yaml"
    ),
    r"Error merging override ((?:.|\n)*)": lambda given: (
        f"{given}: hydra takes no such value; leave it out, or see python train.py --cfg hydra"
    ),
    r"Could not (?:find|load) '([^']*)'": _explain_missing_option,
    r"Could not delete '([^']*)'": lambda key: f"~{key}: there is no such choice to leave out",
    r"Expected header format: \S+ \S+ got '([^']*)'": lambda line: f"# {line} heads a YAML; write # @package _global_",
    r"Invalid loaded object type: (\w+)": lambda kind: f"a YAML holds {kind} where key: value is meant; mend that file",
    r"(?s)In '([^']*)': .*Cannot merge DictConfig with ListConfig": lambda name: (
        f"{name}.yaml holds a list where key: value is meant; mend that file"
    ),
    r"already at '([^']*)'": lambda key: f"{key} is there already; leave out the +",
    r"Multiple values for (\S+?)\.": lambda key: f"{key} is there already; leave out the +",
    r"Sweep parameters '([^']*)' requires": _no_sweep,
    r"Ambiguous value for argument '([^']*)'": lambda given: f"{given}: several values make a sweep; add -m",
}
"""Pattern of hydra's message, and what we say of the thing that it names."""
