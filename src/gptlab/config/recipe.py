"""Recipe: the resolved config of a run as plain data, its types, its hash, its name. No hydra, no torch."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from typing import Any, Literal

from gptlab.config.later_keys import LATER_KEYS, list_later_keys
from gptlab.config.ranges import check_ranges
from gptlab.config.typecheck import conforms, describe_type, explain_unknown, format_value

PARTS = ("attention", "position", "norm", "mlp", "residual", "block", "readout", "embedding")
"""Slots that make a decoder."""
SLOTS = (
    *(*PARTS, "init", "parametrization", "change", "data", "tokenizer", "optimizer", "schedule", "metric", "callback"),
    "trainer",
)
"""Slots whose choices are code and always there."""
LISTS = ("change", "metric", "callback")
"""Slots of any number of choices, by name."""
KNOB_SLOTS = ("format",)
"""Slots whose choices are knobs of the choices of others."""
OPTIONAL_SLOTS = ("pretrained",)
"""Slots that a run may be without."""
STANDARD = {"_target_": "gptlab.model.parametrization.standard.Standard", "_partial_": True}
"""The parametrization of all runs of before there was a choice."""
TOKEN_EMBEDDING = {"_target_": "gptlab.model.embedding.token.TokenEmbedding", "_partial_": True}
"""The embedding of all runs of before there was a choice."""
COSMETIC_KEYS = ("name", "resume", "outputs", "tracking", "save_minutes", "keep", "branches", "trunk")
"""Keys that change no number of a run."""
KEYS_NOT_IN_NAME = (
    *(*COSMETIC_KEYS, "data.path", "tokenizer.path", "pretrained"),
    *("metric.answer_bits.path", "metric.minimal_pairs.path"),
    *("content", "seed", "trainer", "log_every", "save_every", "evaluation", "sample"),
)
"""Keys that the name of a run leaves out."""


@dataclass(frozen=True)
class Model:
    """Sizes of a model, and the batch and learning rate that suit them."""

    width: int
    heads: int
    layers: int
    context: int
    batch_size: int
    lr: float
    head: int | None
    loops: int = field(default=1, kw_only=True)
    loop_order: Literal["cycle", "repeat"] = field(default="cycle", kw_only=True)


@dataclass(frozen=True)
class Evaluation:
    """Interim evaluations: every so many steps, on so many tokens; tokens of the final one, None for the usual.

    All of them see one part of the split.
    """

    every: int
    tokens: int
    final: int | None = field(default=None, kw_only=True)
    part: Literal["all", "open", "held_back"] = field(default="all", kw_only=True)


@dataclass(frozen=True)
class Sample:
    """Settings of samples."""

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
    """Settings of the trackers; the mode is W&B's, and disabled is none at all."""

    mode: Literal["offline", "online", "auto", "disabled"]
    to: list[str] = field(default_factory=lambda: ["wandb"], kw_only=True)  # runs of before 2026-12 do not say it
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
    embedding_norm: bool = field(default=False, kw_only=True)
    embedding_scale: float | Literal["sqrt_width"] = field(default=1.0, kw_only=True)
    dropout: float
    shuffle_targets: bool = field(default=False, kw_only=True)
    clip: float | None
    compile: Literal["auto", "on", "off"]
    max_minutes: float | None
    resume: str | None
    outputs: str
    log_every: int
    save_every: int
    save_minutes: float | None = field(default=None, kw_only=True)
    keep: Literal["all", "best", "last", "none"] = field(default="all", kw_only=True)
    branches: list[float] = field(default_factory=list, kw_only=True)
    trunk: str | None = field(default=None, kw_only=True)
    content: dict[str, str]
    model: Model  # width, heads, layers, ...: what conf/model/<size>.yaml sets
    evaluation: Evaluation
    sample: Sample
    tracking: Tracking


@dataclass(frozen=True)
class Recipe:
    """A resolved config, the names of its choices by slot, and what it changes from the defaults (for its name)."""

    config: dict[str, Any]
    choices: dict[str, Any] = field(default_factory=dict)
    differs: tuple[str, ...] = ()

    @cached_property  # callbacks ask at each step
    def settings(self) -> Settings:
        """The keys that are no slots, typed."""
        return _make_typed(Settings, self.config)

    @property
    def hash(self) -> str:
        """Eight hex digits of all that can change a number, the order of changes too."""
        config = {key: value for key, value in self.config.items() if key not in COSMETIC_KEYS}
        _drop_paths(config)
        _drop_later_keys(config)
        # sort_keys would lose the order of changes, which matters
        order = "+".join(config.get("change", ()))
        # eight hex digits: among 10,000 configs two meet by chance once in a hundred pools
        text = f"{json.dumps(_normalize_numbers(config), sort_keys=True)}{order}"
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @property
    def label(self) -> str:
        """Its name <model>-<what differs>-s<seed>, fit for a file name and, as it has no `=`, for an override."""
        parts = [str(self.choices.get("model", "custom")), *self.differs]
        first, *others = [re.sub(r"[^\w.+-]+", "_", part, flags=re.ASCII) for part in parts]
        # 80 characters: with seed and hash it stays below the 128 of W&B, and a folder's 255 bytes
        text = first[:80]
        for part in others:
            # whole or not at all: router_z_0.001, cut, would say router_z_0.0
            if len(text) + len(part) < 80:
                text = f"{text}-{part}"
        return f"{text.rstrip('-_')}-s{self.config['seed']}"

    @property
    def folder(self) -> str:
        """The name of its run folder."""
        return f"{self.label}-{self.hash}"


def _drop_paths(config: dict[str, Any]) -> None:
    """Leave out the paths of files: these count by their content. Moved, they are the same run; changed, another."""
    stamps = config.get("content") or {}
    for slot in ("data", "tokenizer", "pretrained"):
        node = config.get(slot)
        if isinstance(node, dict) and (slot in stamps or node.get("sha256")):
            config[slot] = {key: value for key, value in node.items() if key != "path"}
    if isinstance(metrics := config.get("metric"), dict):
        config["metric"] = {**metrics}
        for name in metrics:
            if f"metric.{name}" in stamps:
                config["metric"][name] = {key: value for key, value in metrics[name].items() if key != "path"}


def _drop_later_keys(config: dict[str, Any]) -> None:
    """Leave out keys that came later, where they say nothing: the hashes of older runs stay as they were."""
    for group in LATER_KEYS:
        if isinstance(node := config.get(group), dict):
            later = list_later_keys(group, node)
            config[group] = {key: value for key, value in node.items() if key not in later or value != later[key]}
    usual_values = {"shuffle_targets": False, "embedding_norm": False, "embedding_scale": 1.0}
    for key, value in {**usual_values, "parametrization": STANDARD, "embedding": TOKEN_EMBEDDING}.items():
        if config.get(key) == value:
            del config[key]
    for key in ("content", "change", "callback"):  # none is as if there were no such key
        if not config.get(key):
            config.pop(key, None)


def _normalize_numbers(value: Any) -> Any:
    """Return the same value for what is equal: 1.0 as 1."""
    if isinstance(value, dict):
        return {key: _normalize_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_normalize_numbers(item) for item in value]
    # clip=1 and clip=1.0 are one run; JSON would write them apart
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _make_typed(kind: Any, values: dict[str, Any]) -> Any:
    arguments = {item.name: values[item.name] for item in fields(kind) if item.name in values or not _has_default(item)}
    for item in fields(kind):
        if item.name in arguments and is_dataclass(item.type):
            arguments[item.name] = _make_typed(item.type, arguments[item.name])
    return kind(**arguments)


def _has_default(item: "Field[Any]") -> bool:
    """Whether a key may be missing: one that is younger than the configs of runs that are on disk."""
    return item.default is not MISSING or item.default_factory is not MISSING


def flatten(config: Any, path: str = "") -> dict[str, Any]:
    """Return a nested config as {dotted key: leaf}."""
    if not isinstance(config, dict) or not config:
        return {path: config}
    leaves = {}
    for key, value in config.items():
        leaves |= flatten(value, f"{path}.{key}" if path else key)
    return leaves


def check_settings(config: dict[str, Any]) -> list[str]:
    """Return the problems of the keys that are no slots: unknown, missing, of another type, out of range."""
    rest = {key: value for key, value in config.items() if key not in (*SLOTS, *OPTIONAL_SLOTS)}
    # ranges compare numbers, so types come first
    return list(_check_types(Settings, rest, "")) or list(check_ranges(flatten(rest)))


def _check_types(kind: Any, values: Any, path: str) -> Iterator[str]:
    if not isinstance(values, dict):
        yield f"{path.rstrip('.')}={format_value(values)} is not a group of keys"
        return
    known = {item.name: item.type for item in fields(kind) if item.name in values or not _has_default(item)}
    yield from (explain_unknown(path + key, list(known), path) for key in values if key not in known)
    for key, wanted in known.items():
        if key not in values:
            yield f"{path}{key}: no value given"
        elif is_dataclass(wanted):
            yield from _check_types(wanted, values[key], f"{path}{key}.")
        elif not conforms(values[key], wanted):
            yield f"{path}{key}={format_value(values[key])} is not {describe_type(wanted, values[key])}"


def describe_damage(config: dict[str, Any]) -> str:
    """Return what a run's config lacks that every run's has, "" where nothing is missing."""
    wrong = [slot for slot in SLOTS if not isinstance(config.get(slot, {}), dict)]
    for slot in SLOTS:
        if not wrong and slot not in LISTS and not isinstance(config.get(slot, {}).get("_target_"), str):
            wrong = [slot]
    if wrong:
        return f"{wrong[0]} in its config.yaml holds no choice"
    sizes = config.get("model")
    numbers = {"batch_size": config.get("batch_size")}
    for key in ("width", "heads", "layers", "context"):
        numbers[f"model.{key}"] = sizes.get(key) if isinstance(sizes, dict) else None
    for key, value in numbers.items():
        if not conforms(value, int):
            return f"{key}={format_value(value)} in its config.yaml is not an int"
    if not isinstance(config.get("content"), dict):
        return "content in its config.yaml is no group of stamps"
    return ""


def set_values(recipe: Recipe, **values: Any) -> Recipe:
    """Return a recipe with some knobs set, dots of their paths written __.

    It is as if the command line had said so, since no other knob is computed from these.
    """
    config, differs = recipe.config, list(recipe.differs)
    for name, value in values.items():
        path = name.split("__")
        config = _set_path(config, path, value)
        if path[-1] != "seed":
            difference = f"{path[-1]}={value if isinstance(value, str) else format_value(value)}"
            differs = [earlier for earlier in differs if not earlier.startswith(f"{path[-1]}=")] + [difference]
    return replace(recipe, config=config, differs=tuple(differs))


def _set_path(config: dict[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    first, *rest = path
    return {**config, first: _set_path(config[first], rest, value) if rest else value}
