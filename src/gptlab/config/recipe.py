"""What a run was asked to be: the resolved config as plain data, its types, its hash, its name. No hydra, no torch."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal

from gptlab.config.typecheck import conforms, describe, shown, unknown

PARTS = ("attention", "position", "norm", "mlp", "residual", "block", "readout")
"""The slots that make a decoder."""
SLOTS = (*PARTS, "init", "change", "data", "tokenizer", "optimizer", "schedule", "metric", "callback", "trainer")
"""All slots whose choices are code and always there."""
LISTS = ("change", "metric", "callback")
"""Slots of any number of choices, by name."""
KNOB_SLOTS = ("format",)
"""Slots whose choices are knobs of the choices of others."""
MAYBE = ("pretrained",)
"""Slots that a run may be without."""
COSMETIC = ("name", "resume", "outputs", "tracking")
"""Keys that change no number of a run."""
UNNAMED = (
    *(*COSMETIC, "data.path", "tokenizer.path", "pretrained"),
    *("seed", "trainer", "log_every", "save_every", "evaluation", "sample"),
)
"""Keys that the name of a run leaves out."""


@dataclass(frozen=True)
class Model:
    """Sizes, and the batch and learning rate that suit them."""

    width: int
    heads: int
    layers: int
    context: int
    batch_size: int
    lr: float
    head: int | None


@dataclass(frozen=True)
class Evaluation:
    """Interim evaluations: every so many steps, on so many tokens."""

    every: int
    tokens: int


@dataclass(frozen=True)
class Sample:
    """How samples are drawn."""

    prompt: str | None
    count: int
    length: int
    temperature: float
    top_k: int | None
    top_p: float | None
    cached: bool
    one_by_one: bool


@dataclass(frozen=True)
class Tracking:
    """Where W&B's mirror of a run goes."""

    mode: Literal["offline", "online", "auto", "disabled"]
    project: str
    entity: str | None
    group: str | None
    tags: list[str]
    artifacts: bool


@dataclass(frozen=True)
class Settings:
    """The keys of a config that are no slots, with their types."""

    name: str | None
    seed: int
    steps: int
    batch_size: int
    accumulate: int
    vocab_multiple: int
    bias: bool
    final_norm: bool
    dropout: float
    clip: float | None
    compile: Literal["auto", "on", "off"]
    max_minutes: float | None
    resume: str | None
    outputs: str
    log_every: int
    save_every: int
    model: Model
    evaluation: Evaluation
    sample: Sample
    tracking: Tracking


POSITIVE = (
    *("steps", "batch_size", "accumulate", "vocab_multiple", "clip", "max_minutes", "log_every", "save_every"),
    *(f"model.{size}" for size in ("width", "heads", "layers", "context", "batch_size", "lr", "head")),
    *("evaluation.every", "evaluation.tokens", "sample.length", "sample.top_k"),
)


@dataclass(frozen=True)
class Recipe:
    """A resolved config, the names of its choices by slot, and what it changes from the defaults (for its name)."""

    config: dict[str, Any]
    choices: dict[str, Any] = field(default_factory=dict)
    differs: tuple[str, ...] = ()

    @property
    def settings(self) -> Settings:
        """The keys that are no slots, typed."""
        return _typed(Settings, self.config)

    @property
    def hash(self) -> str:
        """Eight hex digits of all that can change a number, the order of changes too."""
        kept = {key: value for key, value in self.config.items() if key not in COSMETIC}
        for slot in ("change", "callback"):  # none is as if there were no such slot
            if not kept.get(slot):
                kept.pop(slot, None)
        order = "+".join(kept.get("change", ()))
        return hashlib.sha256(f"{json.dumps(_equal(kept), sort_keys=True)}{order}".encode()).hexdigest()[:8]

    @property
    def label(self) -> str:
        """<model>-<what differs>-s<seed>, fit for a file name and, without `=`, for an override such as resume."""
        parts = [str(self.choices.get("model", "custom")), *self.differs]
        text = re.sub(r"[^\w.+-]+", "_", "-".join(parts), flags=re.ASCII)[:80].rstrip("-_")
        return f"{text}-s{self.config['seed']}"

    @property
    def folder(self) -> str:
        """The name of its run folder."""
        return f"{self.label}-{self.hash}"


def _equal(value: Any) -> Any:
    """The same for what is equal: 1.0 as 1."""
    if isinstance(value, dict):
        return {key: _equal(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_equal(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _typed(kind: Any, values: dict[str, Any]) -> Any:
    pairs = [(item, values[item.name]) for item in fields(kind)]
    return kind(**{one.name: _typed(one.type, value) if is_dataclass(one.type) else value for one, value in pairs})


def flat(config: Any, path: str = "") -> dict[str, Any]:
    """A nested config as {dotted key: leaf}."""
    if not isinstance(config, dict) or not config:
        return {path: config}
    return {k: v for key, value in config.items() for k, v in flat(value, f"{path}.{key}" if path else key).items()}


def check_settings(config: dict[str, Any]) -> list[str]:
    """What is wrong with the keys that are no slots: unknown, missing, of another type, out of range."""
    rest = {key: value for key, value in config.items() if key not in (*SLOTS, *MAYBE)}
    return list(_check(Settings, rest, "")) or list(_out_of_range(flat(rest)))


def _check(kind: Any, values: Any, path: str) -> Iterator[str]:
    if not isinstance(values, dict):
        yield f"{path.rstrip('.')}={shown(values)} is not a group of keys"
        return
    known = {item.name: item.type for item in fields(kind)}
    yield from (unknown(path + key, list(known), path) for key in values if key not in known)
    for key, wanted in known.items():
        if key not in values:
            yield f"{path}{key}: no value given"
        elif is_dataclass(wanted):
            yield from _check(wanted, values[key], f"{path}{key}.")
        elif not conforms(values[key], wanted):
            yield f"{path}{key}={shown(values[key])} is not {describe(wanted, values[key])}"


def _out_of_range(values: dict[str, Any]) -> Iterator[str]:
    for key in POSITIVE:
        if values[key] is not None and values[key] <= 0:
            yield f"{key}={values[key]} is not positive; give a number > 0"
    if not 0 <= values["dropout"] < 1:
        yield f"dropout={values['dropout']} is not in [0, 1); 0 drops nothing"
    if values["sample.top_p"] is not None and not 0 < values["sample.top_p"] <= 1:
        yield f"sample.top_p={values['sample.top_p']} is not in (0, 1]; null draws from all tokens"
    if values["sample.temperature"] < 0:
        yield f"sample.temperature={values['sample.temperature']} is negative; 0 takes the likeliest token"
    if values["sample.count"] < 0:
        yield f"sample.count={values['sample.count']} is negative; 0 draws no samples"
    if values["accumulate"] > 0 and values["batch_size"] % values["accumulate"]:
        yield f"accumulate={values['accumulate']} does not divide batch_size={values['batch_size']}; try 1"
    if not 0 <= values["seed"] < 2**63:
        yield f"seed={values['seed']} is not in 0 .. 2^63 - 1; try 0"


def altered(recipe: Recipe, **values: Any) -> Recipe:
    """A recipe with some knobs set, dots of their paths written __; as if the command line had said so, since no other
    knob is computed from these."""
    config, differs = recipe.config, list(recipe.differs)
    for name, value in values.items():
        path = name.split("__")
        config = _set(config, path, value)
        if path[-1] != "seed":
            said = f"{path[-1]}={value if isinstance(value, str) else shown(value)}"
            differs = [one for one in differs if not one.startswith(f"{path[-1]}=")] + [said]
    return replace(recipe, config=config, differs=tuple(differs))


def _set(config: dict[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    first, *rest = path
    return {**config, first: _set(config[first], rest, value) if rest else value}
