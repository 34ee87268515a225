"""Command line to StudySpec: the arms of a study, composed, checked, without duplicates, each size with its baseline.

Everything that is wrong is reported at once.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gptlab import compose as wiring
from gptlab.ablation import design
from gptlab.ablation.arms.duplicates import drop_duplicates, drop_same_functions, refuse_without_effect
from gptlab.ablation.arms.idle_options import refuse_absent_metric, refuse_idle_options, refuse_unfit_search
from gptlab.ablation.arms.lines import describe_single_arm, name_arms
from gptlab.ablation.arms.selection import Exclusions, add_arms, choose_named_arms
from gptlab.ablation.arms.tasks import cross_with_tasks, describe_overruled_by_tasks, list_words_of_size, read_tasks
from gptlab.ablation.cells import Variant, hash_without_seed, make_study_name, refuse_bad_study_name
from gptlab.ablation.design import Axes
from gptlab.ablation.ladder import climb
from gptlab.ablation.options import KNOBS, StudyOptions, check_options
from gptlab.ablation.pool import start_server_early
from gptlab.config.factory import check_node, factory
from gptlab.config.menu import explain_unused_knob
from gptlab.config.recipe import STANDARD, Recipe, check_settings, flatten, set_values
from gptlab.config.typecheck import format_value
from gptlab.errors import Refused
from gptlab.runs.outputs import OF_STUDIES, check_writable
from gptlab.runs.study_folder import was_trained
from gptlab.stats.labels import ArmValues, find_arm, label_arm, read_label
from gptlab.stats.spending import ALPHA
from gptlab.study import Study

STUDY_DEFAULTS = ("model", "steps", "evaluation.tokens", "sample.count", "sample.length", "trainer.threads")
"""Keys that ablate.yaml changes in train.yaml; a recipe by name (experiment=...) keeps its own, all but the threads."""
TRAINING_ONLY: dict[str, Any] = {"baseline": None, "budget": [], "confirm": 0, "match": "tokens", "tune": "shared"}
TRAINING_ONLY |= {"aa": False, "controls": False}
"""Knobs that only a training study can honour, with their off-values. The first arm measured is the baseline."""
JUDGING: dict[str, Any] = {"decides": None, "delta": None, "variance": "auto", "pairs": False, "spending": "pocock"}
"""Knobs of verdicts, with their off-values."""


def make_study(options: StudyOptions) -> Study:
    """Return the study that was asked for, or refuse what is wrong with it."""
    if problems := list(check_node(options.study, "study")):
        raise Refused("\nerror: ".join(problems))
    study: Study = factory(options.study, "study")()
    # a study that follows has verdicts
    idle = TRAINING_ONLY if study.follow_up else TRAINING_ONLY | JUDGING
    for knob, off in idle.items():
        if study.together and getattr(options, knob) != off:
            wanted = f"{knob}={getattr(options, knob)}"
            raise Refused(f"{wanted} does not go with study={options.kind}, which trains nothing; leave it out")
    return study


@dataclass(frozen=True)
class StudySpec:
    """A study as it was asked: what is compared, and how.

    base       the recipe with `shared` alone
    baselines  by size
    """

    name: str
    options: StudyOptions
    study: Study
    axes: dict[str, list[str]]
    shared: list[str]  # overrides that all arms have
    base: Recipe
    variants: list[Variant]
    baselines: dict[str, Variant]
    notes: list[str]
    outputs: str
    alpha: float = ALPHA  # its campaign's share for it
    max_minutes: float | None = None  # of a whole ladder
    project_flops: float | None = None  # to train the baseline at the size that its gains are projected to


def parse_command(axes: dict[str, list[str]], fixed: dict[str, str], pooled: bool = False) -> StudySpec:
    """Read a command line.

    Several values make an axis, the study's own knobs are options, the rest is shared by all arms.

    pooled  whether our own pool will run the cells; the server of its workers starts while the arms are checked
    """
    axes, fixed = dict(axes), dict(fixed)
    usual = wiring.compose_config([], "ablate")
    options = read_tasks(_take_options(axes, fixed, usual[1]), axes)
    name = _override_value(fixed.pop("name", None))
    refuse_bad_study_name(name)
    if "resume" in (*axes, *fixed):
        raise Refused("resume=... goes on with one run; a study goes on by the same command")
    for knob in {"trunk", "branches"} & {*axes, *fixed}:
        raise Refused(f"{knob}=... is of one run; a study finds its trunks by itself: schedule=wsd budget=[0.5,2]")
    max_minutes = climb.take_max_minutes(options, axes, fixed)
    defaults = _default_overrides({*axes, *fixed, *climb.list_own_keys(options)}, usual)
    shared = [*defaults, *fixed.values(), *_choose_part(options, {*axes, *fixed})]
    base = wiring.compose(shared)  # checked alone first, or each arm would repeat its refusal
    if problems := check_settings(base.config) or check_writable(Path(base.settings.outputs), OF_STUDIES):
        raise Refused("\nerror: ".join(problems))
    study = make_study(options)
    if pooled and not (study.together or options.dry_run):
        start_server_early(options.jobs, set_values(base, seed=options.blocks[0]))
    options = replace(options, design=study.design or options.design)
    own_arms, options = choose_named_arms(options, study.arms(base), axes, lambda names: _default_values(names, base))
    variants, notes = _select_variants(options, axes, own_arms, shared=shared, base=base)
    _refuse_unknown_lr(options, variants)
    refuse_absent_metric(options, variants)
    baselines = _choose_baselines(options, variants, base, shared)
    if not study.together and options.design != "search":
        variants, of_functions = drop_same_functions(variants, baselines, options.blocks[0])
        notes += of_functions
    if not study.together:
        notes += describe_single_arm(options, variants, fixed, lambda: wiring.compose_config([])[0])
    axes = {"model": options.ladder, **axes} if options.ladder else axes
    return StudySpec(
        name=name or make_study_name(axes, base, options),
        options=options,
        study=study,
        axes=axes,
        shared=shared,
        base=base,
        variants=variants,
        baselines=baselines,
        notes=[*notes, *describe_overruled_by_tasks(fixed.values(), options)],
        outputs=base.settings.outputs,
        max_minutes=max_minutes,
    )


def _select_variants(
    options: StudyOptions, axes: Axes, own_arms: dict[str, list[str]], *, shared: list[str], base: Recipe
) -> tuple[list[Variant], list[str]]:
    """Return the arms of a study, none twice and none that is excluded, and notes on what was left out."""
    exclusions = Exclusions(options.exclude)
    own_arms = exclusions.select(own_arms)
    if options.design == "search":
        refuse_unfit_search(options, axes)
        variants = _compose_arms([design.ArmSpec()], shared, base, options)
    elif own_arms:
        specified = [design.ArmSpec(read_label(name), words) for name, words in own_arms.items()]
        variants = _compose_arms(specified, shared, base, options)
    else:
        points = design.combine_axes(axes, options.design, _default_values(axes, base))
        by_point = {}
        for point, arm in zip(points, design.specify_arms(axes, points, options), strict=True):
            if not exclusions.has(label_arm(arm.values), arm.words):
                by_point[point] = arm
        variants = _compose_arms([*by_point.values()], shared, base, options)
        if not exclusions.excluded:  # else an axis may be left with one value
            refuse_without_effect(axes, [*by_point], variants)
    variants, notes = drop_duplicates(variants, bool(options.tasks))
    notes += exclusions.describe(len(variants))
    for variant in variants:
        if variant.values == design.BASELINE and len(variant.overrides) > len(shared):
            notes.append(f"baseline: {' '.join(variant.overrides[len(shared) :])}")
    return variants, notes


def _choose_part(options: StudyOptions, given: set[str]) -> list[str]:
    """Return the override of the part of the validation split that a campaign lets its studies see."""
    if not options.campaign:
        return []
    if "evaluation.part" in given:
        raise Refused("campaign= chooses the part of the validation split itself; leave evaluation.part out")
    return ["evaluation.part=open"]


def compose_trial(spec: StudySpec, values: ArmValues, words: list[str]) -> Variant:
    """Return one more arm of a study; raise Refused with all that is wrong with it in one line."""
    try:
        recipe = wiring.compose([*spec.shared, *words])
    except Refused as refused:
        raise Refused(str(refused).splitlines()[0]) from refused
    if problems := wiring.check_recipe(recipe):
        raise Refused(problems[0])
    return Variant(values, [*spec.shared, *words], recipe)


def _take_options(axes: dict[str, list[str]], fixed: dict[str, str], usual: dict[str, Any]) -> StudyOptions:
    """Remove the study's own knobs from the overrides, and return them as options; `seed` says which seeds.

    usual  the config of a study of which nothing is said
    """
    for key in axes:
        if key in (*KNOBS, "name", "cell", "outputs") or key.startswith("study."):
            raise Refused(f"{key}={','.join(axes[key])}: a study has one {key}; give one value")
    typed_arms = [fixed.pop(key) for key in [*fixed] if key.startswith("+arms.")]
    typed = [key for key in fixed if key in KNOBS or key.startswith("study.")]
    words = [fixed.pop(key) for key in typed]
    config = wiring.compose_config(words, "ablate")[1] if words else {**usual}
    if "experiment" in fixed:  # its YAML may hold a whole study; what is typed wins
        _, of_recipe = wiring.compose_config([fixed["experiment"]])
        config |= {knob: of_recipe[knob] for knob in KNOBS if knob in of_recipe and knob not in typed}
    if typed_arms:
        config["arms"] = add_arms(config["arms"], wiring.compose_config(typed_arms, "ablate")[1]["arms"])
    if "seed" in fixed:
        axes["seed"] = [_override_value(fixed.pop("seed")) or ""]
    if "seed" in axes:
        try:
            config["seeds"] = [int(seed) for seed in axes.pop("seed")]
        except ValueError as error:
            raise Refused(f"seed: {str(error).partition(': ')[2]} is no whole number; seed=0,1,2 or seeds=3") from error
    options = check_options(config)
    refuse_idle_options(options, typed)
    return options


def _default_overrides(given: set[str], usual: tuple[dict[str, Any], dict[str, Any]]) -> list[str]:
    """Return the defaults of runs that ablate.yaml changes, as overrides of train.yaml.

    usual  choices and config of ablate.yaml as it stands
    """
    choices, config = usual
    # threads always: other numbers of threads give other last bits, and so would other launchers
    changed = ("trainer.threads",) if "experiment" in given else STUDY_DEFAULTS
    keys = [key for key in changed if key not in given]
    values = {**flatten(config), "model": choices["model"]}
    return [f"{key}={values[key]}" for key in keys]


def _override_value(line: str | None) -> str | None:
    return None if line is None else line.partition("=")[2].strip("'\"")


def _default_values(axes: Iterable[str], base: Recipe) -> dict[str, str]:
    """Return the value of each axis where the command line says nothing of it."""
    knobs = flatten(base.config)
    values = {key: value if isinstance(value, str) else format_value(value) for key, value in knobs.items()}
    values |= base.choices
    return {axis: str(values[axis]) for axis in axes if axis in values}


def _compose_arms(arms: list[design.ArmSpec], shared: list[str], base: Recipe, options: StudyOptions) -> list[Variant]:
    """Compose and check every arm, at every rung of a ladder, in every task; all that is wrong is reported at once.

    What has run under the first seed, by the same code, was checked then: that takes torch.
    """
    arms, seed = cross_with_tasks(climb.spread_over_rungs(arms, options.ladder), options), options.blocks[0]
    problems: dict[str, list[str]] = {}
    variants = []
    for arm in arms:
        words = arm.words
        try:
            recipe = wiring.compose([*shared, *words])
            # so a finished study repeats without torch: 3.3 CPU seconds for 7.5 (docs/log.md, 2026-11-29)
            lines = [] if was_trained(set_values(recipe, seed=seed)) else wiring.check_recipe(recipe)
        except Refused as refused:
            recipe, lines = base, str(refused).split("\nerror: ")
            lines = [explain_unused_knob(line, words, base.choices) for line in lines]
        variants.append(Variant(arm.values, [*shared, *words], recipe, arm.size))
        for line in lines:
            problems.setdefault(line, []).append(variants[-1].key)
    if problems:
        raise Refused("\nerror: ".join(name_arms(line, keys, variants) for line, keys in problems.items()))
    return variants


def _refuse_unknown_lr(options: StudyOptions, variants: list[Variant]) -> None:
    for variant in variants if options.tune != "shared" else ():
        if "lr" not in variant.recipe.config["optimizer"]:
            raise Refused(f"tune={options.tune}: {variant.key} has no optimizer.lr; use tune=shared")
        # the grid is in multiples of each arm's own rate
        if any(word.startswith("optimizer.lr=") for word in variant.overrides):
            raise Refused(f"tune={options.tune} sets optimizer.lr itself; leave optimizer.lr out, or use tune=shared")
        if options.tune == "transfer" and variant.recipe.config["parametrization"] == STANDARD:
            raise Refused(
                f"tune=transfer: {variant.key} has parametrization=standard, which carries no rate to other sizes; say "
                "parametrization=completep, or mup where rungs are equally deep, or tune=grid"
            )


def _choose_baselines(
    options: StudyOptions, variants: list[Variant], base: Recipe, shared: list[str]
) -> dict[str, Variant]:
    """Return the baseline of each size.

    This is the one asked for; else the full stack, or the defaults if they are an arm, or the first.
    """
    sizes: dict[str, list[Variant]] = {}
    for variant in variants:
        sizes.setdefault(variant.size, []).append(variant)
    baselines = {}
    for size, arms in sizes.items():
        words = list_words_of_size(size, options)
        default = hash_without_seed(wiring.compose([*shared, *words]) if words else base)
        candidates = [arm for arm in arms if hash_without_seed(arm.recipe) == default]
        # the full stack is the first
        baselines[size] = candidates[0] if candidates and options.design != "leave_one_out" else arms[0]
        if options.baseline is not None:
            name = find_arm(options.baseline, {arm.name: arm.values for arm in arms})
            baselines[size] = next(arm for arm in arms if arm.name == name)
    return baselines
