"""Composed config to checked recipe to objects. The only file that imports hydra."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gptlab.factory import check_node, factory
from gptlab.recipe import COSMETIC, PARTS, SLOTS, Recipe, check_settings, flat, unknown
from gptlab.record import stored
from gptlab.refused import Ended, Refused

if TYPE_CHECKING:
    from gptlab.decoder import Decoder

CONF = Path(__file__).parents[2] / "conf"
FULL_ERROR = os.environ.get("HYDRA_FULL_ERROR") == "1"
"""Asked for at the start, before `one_line` sets it for hydra."""


def half_or_less(heads: int) -> int:
    """The largest divisor of heads up to half of them; 1 for one head."""
    return max((n for n in range(1, heads // 2 + 1) if heads % n == 0), default=1)


def quarter(number: int) -> int:
    """A quarter, at least 1."""
    return max(1, number // 4)


OmegaConf.register_new_resolver("half_or_less", half_or_less, replace=True)
OmegaConf.register_new_resolver("quarter", quarter, replace=True)


# -- composed config to recipe


def compose(overrides: list[str], config_name: str = "train") -> Recipe:
    """The recipe of command-line overrides, unchecked."""
    with one_line(), _initialized():
        config = hydra_compose(config_name, overrides, return_hydra_config=True)
        return _recipe(config, overrides, config_name)


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
    overrides = list(hydra.overrides.task)
    made = _recipe(OmegaConf.merge({"hydra": hydra}, config), overrides, str(hydra.job.config_name))
    wrong = check_settings(made.config)
    if not wrong and made.config["resume"] not in (None, "auto"):
        made = _resumed(made, overrides)
    if wrong := wrong or check(made):
        raise Refused("\nerror: ".join(wrong))
    return made


def _resumed(made: Recipe, overrides: list[str]) -> Recipe:
    """The recipe of the run folder to go on with. Overrides beside `resume` may only repeat what it was."""
    folder = Path(made.config["resume"])
    saved = stored(folder)
    asked = {o.key_or_group for o in OverridesParser.create().parse_overrides(overrides)} - {*COSMETIC}
    if asked:
        here, there = flat(made.config), flat(saved.config)
        keys = [k for k in {**there, **here} if here.get(k) != there.get(k) and k.split(".")[0] not in COSMETIC]
        if keys:
            shown = ", ".join(f"{k} ({there.get(k)} there, {here.get(k)} here)" for k in keys[:4])
            more = f" and {len(keys) - 4} more" if len(keys) > 4 else ""
            raise Refused(f"resume={folder} is a run of another config: {shown}{more}; say resume={folder} alone")
    kept = {key: made.config[key] if key in asked else saved.config[key] for key in COSMETIC}
    kept |= {"resume": str(folder), "outputs": str(folder.absolute().parents[1])}
    return Recipe({**saved.config, **kept}, saved.choices, saved.differs)


def _recipe(config: Any, overrides: list[str], config_name: str) -> Recipe:
    _refuse_added_keys(overrides, config_name)
    choices, plain = _choices(config), resolved(config)
    return Recipe(plain, choices, _differs(plain, choices, config_name))


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
        raise Refused(f"{error.full_key or key}: {str(error).splitlines()[0]}") from error


def _refuse_added_keys(overrides: list[str], config_name: str) -> None:
    """Every key has a default in conf/, so a key that `+` would add is a typing error."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    added = [o for o in parsed if o.is_add() or o.is_force_add() if not str(o.key_or_group).startswith("hydra")]
    if not added:
        return
    rest = [o.input_line for o in parsed if o not in added]
    _, known = _composed(rest, config_name)
    for one in added:
        key = str(one.key_or_group)
        if not any(name == key or name.startswith(f"{key}.") for name in known):
            path = key.rpartition(".")[0]
            near = {n.removeprefix(f"{path}.").split(".")[0] for n in known if not path or n.startswith(f"{path}.")}
            raise Refused(unknown(key, sorted(near), f"{path}." if path else ""))


def _differs(plain: dict, choices: dict, config_name: str) -> tuple[str, ...]:
    """What sets a recipe apart from the defaults, in the words of the command line: choices, then knobs."""
    named = [f"{key}={choices[key]}" for key in ("model", "experiment") if choices.get(key)]
    usual_choices, _ = _composed(named, config_name)
    chosen = {k: v for k, v in choices.items() if v != usual_choices.get(k) and isinstance(v, str)}
    _, usual = _composed([*named, *(f"{k}={v}" for k, v in chosen.items())], config_name)
    knobs = [
        f"{key.rpartition('.')[2]}={value}"
        for key, value in flat(plain).items()
        if usual.get(key) != value and key.split(".")[0] not in UNNAMED and key not in ("seed", "data.path")
    ]
    recipe = [choices["experiment"]] if choices.get("experiment") else []
    return (*recipe, *(v for k, v in chosen.items() if k not in UNNAMED), *knobs)


UNNAMED = (*COSMETIC, "trainer", "log_every", "save_every", "evaluation", "sample")
"""Keys that the name of a run leaves out."""


def _composed(overrides: list[str], config_name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    with _initialized():
        config = hydra_compose(config_name, overrides, return_hydra_config=True)
        return _choices(config), flat(resolved(config))


def _choices(config: DictConfig) -> dict[str, Any]:
    chosen = OmegaConf.to_container(config.hydra.runtime.choices)
    return {str(slot): choice for slot, choice in dict(chosen).items() if not str(slot).startswith("hydra/")}


# -- checked


def check(made: Recipe) -> list[str]:
    """All that is wrong with a recipe, one line each, before any compute. Imports torch only if the plain keys are right."""
    wrong = check_settings(made.config)
    if not wrong:
        nodes = [(slot, made.config.get(slot)) for slot in SLOTS if slot != "metric"]
        nodes += [(f"metric.{name}", node) for name, node in (made.config.get("metric") or {}).items()]
        wrong = [line for path, node in nodes for line in check_node(node, path)]
    return wrong or _check_build(made)


def _check_build(made: Recipe) -> list[str]:
    import torch
    from torch.overrides import TorchFunctionMode

    class NoInit(TorchFunctionMode):  # on meta nothing is drawn, and drawing would import torch._dynamo (1.7 s)
        def __torch_function__(self, func, types, args=(), kwargs=None):
            drawn = getattr(func, "__module__", "") == "torch.nn.init" or getattr(func, "__name__", "") in DRAWS
            kwargs = kwargs or {}
            return next(iter((*args, *kwargs.values()))) if drawn else func(*args, **kwargs)

    try:
        with NoInit(), torch.device("meta"):
            decoder(made, vocab=64)
        for slot in ("init", "data", "schedule"):
            factory(made.config[slot], slot)()
    except Refused as refused:
        return [str(refused)]
    except ValueError as error:
        return [str(error).splitlines()[0]]
    return []


DRAWS = ("normal_", "uniform_", "zero_", "fill_")


# -- to objects


def decoder(made: Recipe, vocab: int) -> "Decoder":
    """The decoder of a recipe, with whatever first values its parts give themselves."""
    from gptlab.decoder import Decoder
    from gptlab.shape import Shape

    sizes = made.settings.model
    shape = Shape(sizes.width, sizes.heads, sizes.layers, sizes.context, vocab, sizes.head or 0)
    parts = {slot: factory(made.config[slot], slot) for slot in PARTS}
    return Decoder(shape, **parts, dropout=made.settings.dropout)


def build(made: Recipe, vocab: int) -> "Decoder":
    """The decoder of a recipe with its weights set by the init choice, keyed by seed and name; leaves torch's random
    state alone."""
    import torch

    from gptlab.init import initialize

    with torch.random.fork_rng(devices=[]):
        made_decoder = decoder(made, vocab)
    init = factory(made.config["init"], "init")()
    initialize(made_decoder, init, made_decoder.shape, made.settings.seed)
    return made_decoder


# -- errors in one line


@contextmanager
def one_line() -> Iterator[None]:
    """Turns what hydra and omegaconf raise inside into Refused with one line, unless HYDRA_FULL_ERROR=1 asks for all."""
    asked = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else hydra prints and exits by itself
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        if FULL_ERROR:
            raise
        raise Refused(shortened(str(error))) from error
    finally:
        os.environ.pop("HYDRA_FULL_ERROR")
        if asked is not None:
            os.environ["HYDRA_FULL_ERROR"] = asked


def shortened(message: str) -> str:
    """Hydra's message in one line, with the remedy."""
    if found := re.search(r"Could not find '([^']*)'", message):
        group, _, option = found[1].rpartition("/")
        return f"{group}={option}: no such option; choose from {', '.join(options(group))}"
    if found := re.search(r"Could not override '([^']*)'", message):
        key = found[1]
        path, _, name = key.rpartition(".")
        return unknown(key, _known(path), f"{path}." if path else "")
    if found := re.search(r"Ambiguous value for argument '([^']*)'", message):
        return f"{found[1]}: several values make a sweep; add -m"
    if found := re.search(r"Multiple values for (\S+?)\.", message):
        return f"{found[1]}: given twice; leave out the +"
    if found := re.search(r"Error parsing override '([^']*)'", message):
        return f"{found[1]!r} is not an override; write key=value"
    return " ".join(message.split())


def options(group: str) -> list[str]:
    """The choices of a slot."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def _known(path: str) -> list[str]:
    GlobalHydra.instance().clear()
    _, default = _composed([], "train")
    keys = [key.removeprefix(f"{path}.") for key in default if not path or key.startswith(f"{path}.")]
    return sorted({key.split(".")[0] for key in keys})


@contextmanager
def entry() -> Iterator[None]:
    """Around a whole program: errors in one line on stderr, exit status 2 for what was refused."""
    try:
        with one_line():
            yield
    except (Refused, Ended) as error:
        if FULL_ERROR:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.status if isinstance(error, Ended) else 2)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
