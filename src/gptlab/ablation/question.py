"""From the words of a command line to the arms of a study: composed, checked, without doubles, each size with its
baseline. Everything that is wrong is told at once."""

from dataclasses import dataclass, replace

from gptlab import compose as wiring
from gptlab.ablation import design
from gptlab.ablation.cells import Variant, signature, study_name
from gptlab.ablation.options import KNOBS, Asked, asked
from gptlab.config.factory import check_node, factory
from gptlab.config.menu import CONF
from gptlab.config.recipe import Recipe, check_settings, flat
from gptlab.config.typecheck import shown
from gptlab.errors import Refused
from gptlab.stats.labels import find_arm
from gptlab.study import Study

DEFAULTS = ("model", "steps", "trainer.threads")
"""What ablate.yaml changes in train.yaml; a recipe by name (experiment=...) keeps its own model and steps."""


TRAINING = {"baseline": None, "budget": [], "confirm": 0, "aa": False, "match": "tokens", "tune": "shared"}
"""Knobs that only a training study can honour, and where they are off. The first arm measured is the baseline."""


def chosen(asked: Asked) -> Study:
    """The study that was asked for, or a refusal of what is wrong with it."""
    if wrong := list(check_node(asked.study, "study")):
        raise Refused("\nerror: ".join(wrong))
    study: Study = factory(asked.study, "study")()
    for knob, off in TRAINING.items():
        if study.together and getattr(asked, knob) != off:
            raise Refused(
                f"{knob}={getattr(asked, knob)} does not go with study={asked.kind}, which trains nothing; leave it out"
            )
    return study


@dataclass(frozen=True)
class Question:
    """What is compared, and how."""

    name: str
    asked: Asked
    study: Study
    axes: dict[str, list[str]]
    shared: list[str]  # overrides that all arms have
    base: Recipe
    variants: list[Variant]
    baselines: dict[str, Variant]  # by size
    notes: list[str]
    outputs: str


def question(axes: dict[str, list[str]], fixed: dict[str, str]) -> Question:
    """Reads a command line: several values make an axis, the study's own knobs are its own, the rest all arms share."""
    axes, fixed = dict(axes), dict(fixed)
    knobs = _own(axes, fixed)
    name = _value(fixed.pop("name", None))
    if "resume" in (*axes, *fixed):
        raise Refused("resume=... goes on with one run; a study goes on by the same command")
    shared = [*_defaults({*axes, *fixed}), *fixed.values()]
    base = wiring.compose(shared)
    if wrong := check_settings(base.config):
        raise Refused("\nerror: ".join(wrong))
    study = chosen(knobs)
    knobs = replace(knobs, design=study.design or knobs.design)
    if (own := study.arms(base)) and axes:
        raise Refused(f"study={knobs.kind} has arms of its own; leave {', '.join(axes)} out, or give one value")
    if knobs.design == "search":
        _refuse_unfit(knobs, axes)
        variants = _composed([("default", [], "")], shared, base)
    else:
        arms = [(name, words, "") for name, words in own.items()] or _named(axes, knobs.design, _usual(axes, shared))
        variants = _composed(arms, shared, base)
        _refuse_without_effect(axes, variants)
    variants, notes = _distinct(variants)
    _refuse_unknown_lr(knobs, variants)
    baselines = _baselines(knobs, variants, base, shared)
    return Question(
        name or study_name(axes, base, knobs),
        *(knobs, study, axes, shared, base, variants, baselines, notes, base.settings.outputs),
    )


def trial(here: Question, name: str, words: list[str]) -> Variant:
    """One more arm of a question; raises Refused of all that is wrong with it, in one line."""
    try:
        recipe = wiring.compose([*here.shared, *words])
    except Refused as refused:
        raise Refused(str(refused).splitlines()[0]) from refused
    if wrong := wiring.check(recipe):
        raise Refused(wrong[0])
    return Variant(name, [*here.shared, *words], recipe)


def _refuse_unfit(knobs: Asked, axes: dict[str, list[str]]) -> None:
    """A search of nothing, and what does not go with one."""
    if not axes:
        raise Refused("design=search has nothing to vary; give axes, as in attention=mha,gqa model.layers=2,4")
    for knob, only in {"match": "tokens", "tune": "shared", "budget": [], "baseline": None}.items():
        if getattr(knobs, knob) != only:
            raise Refused(f"{knob}={getattr(knobs, knob)} does not go with design=search; leave it out")


def _own(axes: dict[str, list[str]], fixed: dict[str, str]) -> Asked:
    """The study's own knobs, taken out of the rest; `seed` says which seeds."""
    for key in axes:
        if key in (*KNOBS, "name", "cell", "outputs") or key.startswith("study."):
            raise Refused(f"{key}={','.join(axes[key])}: a study has one {key}; give one value")
    lines = [fixed.pop(key) for key in [*fixed] if key in KNOBS or key.startswith("study.")]
    _, config = wiring.composed(lines, "ablate")
    if "seed" in fixed:
        axes["seed"] = [_value(fixed.pop("seed")) or ""]
    if "seed" in axes:
        try:
            config["seeds"] = [int(one) for one in axes.pop("seed")]
        except ValueError as error:
            raise Refused(f"seed: {str(error).partition(': ')[2]} is no whole number; seed=0,1,2 or seeds=3") from error
    return asked(config)


def _defaults(given: set[str]) -> list[str]:
    """What ablate.yaml says of the runs, as overrides of train.yaml."""
    choices, config = wiring.composed([], "ablate")
    kept = [key for key in DEFAULTS if key not in given and not ("experiment" in given and key in ("model", "steps"))]
    values = {"model": choices["model"], "steps": config["steps"], "trainer.threads": config["trainer"]["threads"]}
    return [f"{key}={values[key]}" for key in kept]


def _value(line: str | None) -> str | None:
    return None if line is None else line.partition("=")[2].strip("'\"")


def _usual(axes: dict[str, list[str]], shared: list[str]) -> dict[str, str]:
    """What each axis is where the command line says nothing of it."""
    choices, config = wiring.composed(shared)
    found = {key: value if isinstance(value, str) else shown(value) for key, value in flat(config).items()} | choices
    return {axis: str(found[axis]) for axis in axes if axis in found}


def _named(axes: dict[str, list[str]], kind: str, usual: dict[str, str]) -> list[tuple[str, list[str], str]]:
    """The arms of a design: name, words, and size, if sizes are compared apart."""
    arms, sized = design.arms(axes, kind, usual), "model" in axes and len(axes) > 1 and kind == "grid"
    found = []
    for arm in arms:
        words = [f"{axis}={value}" for axis, value in zip(axes, arm, strict=True)]
        name = design.label(axes, arm, () if kind == "grid" else arms[0], "model" if sized else "")
        found.append((name, words, arm[[*axes].index("model")] if sized else ""))
    return found


def _composed(arms: list[tuple[str, list[str], str]], shared: list[str], base: Recipe) -> list[Variant]:
    """Every arm, composed and typed; all that is wrong is told at once."""
    wrong: dict[str, list[str]] = {}
    found = []
    for name, words, size in arms:
        try:
            recipe = wiring.compose([*shared, *words])
            lines = wiring.check(recipe)
        except Refused as refused:
            recipe, lines = base, [_without_use(line, words, base) for line in str(refused).split("\nerror: ")]
        found.append(Variant(name, [*shared, *words], recipe, size))
        for line in lines:
            wrong.setdefault(line, []).append(found[-1].key)
    if wrong:
        told = [line if len(keys) == len(arms) else f"{', '.join(keys)}: {line}" for line, keys in wrong.items()]
        raise Refused("\nerror: ".join(told))
    return found


def _without_use(line: str, words: list[str], base: Recipe) -> str:
    """A knob that another choice of its slot has, and this one has not, has no effect rather than no name."""
    key, _, rest = line.partition(": no such key")
    slot, _, knob = key.partition(".")
    if not rest or not knob:
        return line
    texts = (yaml.read_text(encoding="utf-8") for yaml in (CONF / slot).glob("*.yaml"))
    has = any(f"\n{knob}:" in text for text in texts)
    choice = next((word for word in words if word.startswith(f"{slot}=")), f"{slot}={base.choices.get(slot)}")
    return f"{key} has no effect with {choice}; leave one of them out" if has else line


def _refuse_without_effect(axes: dict[str, list[str]], variants: list[Variant]) -> None:
    signatures = {}
    for variant in variants:
        words = {key: value for key, _, value in (word.partition("=") for word in variant.overrides)}
        signatures[tuple(words[axis] for axis in axes)] = signature(variant.recipe)
    if dead := design.without_effect(axes, signatures):
        others = (
            " ".join(f"{key}={values[0]}" for key, values in axes.items() if key not in dead) or "the rest as it is"
        )
        raise Refused(
            "\nerror: ".join(
                f"{axis} has no effect with {others}: {'/'.join(axes[axis])} say the same" for axis in dead
            )
        )


def _distinct(variants: list[Variant]) -> tuple[list[Variant], list[str]]:
    """Variants whose runs would differ, and what was left out."""
    kept: dict[str, Variant] = {}
    notes = []
    for variant in variants:
        first = kept.setdefault(signature(variant.recipe), variant)
        if first is not variant and first.key != variant.key:
            notes.append(f"{variant.key} is {first.key} here: left out")
    return [*kept.values()], notes


def _refuse_unknown_lr(knobs: Asked, variants: list[Variant]) -> None:
    for variant in variants if knobs.tune == "grid" else ():
        if "lr" not in variant.recipe.config["optimizer"]:
            raise Refused(f"tune=grid: {variant.key} has no optimizer.lr; use tune=shared")
        if any(word.startswith("optimizer.lr=") for word in variant.overrides):
            raise Refused("tune=grid sets optimizer.lr itself; leave optimizer.lr out, or use tune=shared")


def _baselines(knobs: Asked, variants: list[Variant], base: Recipe, shared: list[str]) -> dict[str, Variant]:
    """That of each size: the one asked for; else the full stack, or the defaults if they are an arm, or the first."""
    sizes: dict[str, list[Variant]] = {}
    for variant in variants:
        sizes.setdefault(variant.size, []).append(variant)
    found = {}
    for size, arms in sizes.items():
        plain = signature(wiring.compose([*shared, f"model={size}"]) if size else base)
        usual = [arm for arm in arms if signature(arm.recipe) == plain and knobs.design != "leave_one_out"]
        found[size] = (usual or arms)[0]
        if knobs.baseline is not None:
            name = find_arm(knobs.baseline, [arm.name for arm in arms])
            found[size] = next(arm for arm in arms if arm.name == name)
    return found
