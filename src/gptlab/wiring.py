"""Composed config to checked recipe to objects. The only file that imports hydra."""

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from gptlab import tracking
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
    with one_line(overrides), _initialized():
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
    overrides = OmegaConf.to_container(hydra.overrides.task, resolve=False)  # a${b} stays what was typed
    assert isinstance(overrides, list)
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
    choices, plain = _choices(config), {"metric": {}, **resolved(config)}  # metric=[] leaves no trace
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
        path = error.full_key or key
        if isinstance(error, MissingMandatoryValue):
            raise Refused(f"{path}: no value given; say {path}=<value>") from error
        raise Refused(f"{path}: {str(error).splitlines()[0]}; give a value") from error


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
            raise Refused(unknown(key, _below(path, known), f"{path}." if path else ""))


def _below(path: str, keys: Iterable[str]) -> list[str]:
    """What may stand after a path."""
    inside = [key.removeprefix(f"{path}.") for key in keys if not path or key.startswith(f"{path}.")]
    return sorted({key.split(".")[0] for key in inside if not key.startswith("_")})


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
    """All that is wrong with a recipe, one line each, before any compute; plain keys first, without torch."""
    wrong = check_settings(made.config)
    if not wrong:
        wrong = _refused(lambda: tracking.decide(made.settings.tracking))
        nodes = [(slot, made.config.get(slot)) for slot in SLOTS if slot != "metric"]
        nodes += [(f"metric.{name}", node) for name, node in (made.config.get("metric") or {}).items()]
        wrong += [line for path, node in nodes for line in check_node(node, path)]
    return wrong or _check_build(made)


def _check_build(made: Recipe) -> list[str]:
    import torch
    from torch.overrides import TorchFunctionMode

    class NoInit(TorchFunctionMode):  # on meta nothing is drawn, and drawing would import torch._dynamo (1.7 s)
        def __torch_function__(self, func, types, args=(), kwargs=None):
            drawn = getattr(func, "__module__", "") == "torch.nn.init" or getattr(func, "__name__", "") in DRAWS
            kwargs = kwargs or {}
            return next(iter((*args, *kwargs.values()))) if drawn else func(*args, **kwargs)

    def build_all() -> None:
        with NoInit(), torch.device("meta"):
            decoder(made, vocab=64)
        for slot in ("init", "data", "schedule", "trainer"):
            factory(made.config[slot], slot)()
        factory(made.config["optimizer"], "optimizer")([("weight", torch.nn.Parameter(torch.zeros(2, 2)))])

    return _refused(build_all)


def _refused(act: Callable[[], Any]) -> list[str]:
    """What acting is refused with, if it is."""
    try:
        act()
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
def one_line(overrides: list[str] | None = None) -> Iterator[None]:
    """Turns what hydra and omegaconf raise inside into Refused with one line; HYDRA_FULL_ERROR=1 asks for all."""
    asked = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else hydra prints and exits by itself
    try:
        yield
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        line = shortened(error, sys.argv[1:] if overrides is None else overrides)
        if FULL_ERROR or line is None:
            raise
        raise Refused(line) from error
    finally:
        os.environ.pop("HYDRA_FULL_ERROR")
        if asked is not None:
            os.environ["HYDRA_FULL_ERROR"] = asked


def shortened(error: Exception, overrides: list[str]) -> str | None:
    """What hydra says, in one line with the remedy; none if it is not hydra that says it."""
    message = str(error)
    if message.startswith("Config group override must be"):  # a plain ValueError
        return next(_no_options(overrides), "a choice is a name, as in attention=gqa")
    if not isinstance(error, HydraException | OmegaConfBaseException):
        return None
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override)
    for pattern, told in TOLD.items():
        if found := re.search(pattern, message):
            return told(found[1], overrides)
    return " ".join(message.split())


def _unreadable(override: str) -> str:
    key, equals, value = override.partition("=")
    if not equals or not key:
        return f"{override!r} is not an override; write key=value"
    return f"{override} cannot be read; if the value is a text, quote it for hydra too: '{key}=\"{value}\"'"


def _no_options(overrides: list[str]) -> Iterator[str]:
    for group, _, value in (one.lstrip("+~").partition("=") for one in overrides):
        if group and (CONF / group).is_dir() and value not in options(group):
            yield _no_option(f"{group}/{value}", overrides)


def _no_option(choice: str, overrides: list[str]) -> str:
    group, _, option = choice.rpartition("/")
    return f"{group}={option}: no such option; choose from {', '.join(options(group))}"


def _no_key(key: str, overrides: list[str]) -> str:
    GlobalHydra.instance().clear()
    chosen = [one for one in overrides if (CONF / one.partition("=")[0]).is_dir()]
    path = key.rpartition(".")[0]
    return unknown(key, _below(path, _composed(chosen, "train")[1]), f"{path}." if path else "")


TOLD: dict[str, Callable[[str, list[str]], str]] = {
    r"Could not (?:find|load) '([^']*)'": _no_option,
    r"Could not override '([^']*)'": _no_key,
    r"Could not delete from config. '([^']*)' does not": _no_key,
    r"Could not delete '([^']*)'": lambda key, _: f"~{key}: there is no such choice to leave out",
    r"already at '([^']*)'": lambda key, _: f"{key} is there already; leave out the +",
    r"Multiple values for (\S+?)\.": lambda key, _: f"{key} is there already; leave out the +",
    r"Ambiguous value for argument '([^']*)'": lambda given, _: f"{given}: several values make a sweep; add -m",
}
"""What hydra says, and what we say of the thing that it names."""


def options(group: str) -> list[str]:
    """The choices of a slot."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


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
