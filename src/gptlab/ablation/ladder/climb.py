"""A ladder: every arm at several sizes, from small to large, each trained on the tokens of its rung.

A rung has its model's own batch and learning rate. Rungs run one after the other, and an arm that is worse at two of
them, beyond the interval, is left out of the next ones.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console

from gptlab.ablation.ladder.transfer import make_carried_cells
from gptlab.ablation.options import StudyOptions
from gptlab.console.units import format_minutes
from gptlab.errors import Refused
from gptlab.stats.ladder.comparison import find_hopeless_arms

if TYPE_CHECKING:
    from gptlab.ablation.cells import Variant
    from gptlab.ablation.design import ArmSpec
    from gptlab.ablation.plan import Plan


def take_max_minutes(options: StudyOptions, axes: dict[str, list[str]], fixed: dict[str, str]) -> float | None:
    """Remove `max_minutes`, the whole ladder's, from the shared overrides; refuse those that a rung sets.

    A run that ends at a time of its own would not have the tokens of its rung.
    """
    if not options.ladder:
        return None
    written = f"ladder=[{','.join(options.ladder)}]"
    if not axes and not options.arms:
        raise Refused(f"{written} has nothing to compare; give arms, as in attention=mha,gqa")
    for key, remedy in {
        "model": "its sizes are the models",
        "steps": "set tokens_per_parameter, or rung_tokens",
        "experiment": "leave it out",
        # one value is fine: it bounds the whole ladder, see below
        "max_minutes": "give one value" if "max_minutes" in axes else "",
    }.items():
        if (key in axes or key in fixed) and remedy:
            raise Refused(f"{written} does not go with {key}={','.join(axes.get(key, ['...']))}: {remedy}")
    if "max_minutes" not in fixed:
        return None
    # out of what arms share, or each run would take all of it for itself
    value = fixed.pop("max_minutes").partition("=")[2]
    try:
        minutes = None if value == "null" else float(value)
    except ValueError as error:
        raise Refused(f"max_minutes={value} is no number of minutes; try max_minutes=60") from error
    if minutes is not None and not minutes > 0:
        raise Refused(f"max_minutes={value} leaves no time; try max_minutes=60")
    return minutes


def list_own_keys(options: StudyOptions) -> tuple[str, ...]:
    """Return the keys that the rungs set themselves."""
    return ("model", "steps") if options.ladder else ()


def spread_over_rungs(arms: "list[ArmSpec]", sizes: list[str]) -> "list[ArmSpec]":
    """Return the arms at each size of a ladder, from small to large; as they are where there is none."""
    # before the arm's own words: an arm may say something of its size
    sized = [replace(arm, words=[f"model={size}", *arm.words], size=size) for size in sizes for arm in arms]
    return sized or arms


def set_rung_steps(plan: "Plan") -> None:
    """Set the steps of every arm to the tokens of its rung, as they were set before if this study has begun.

    A study without a ladder stays as it is.
    """
    from gptlab.ablation.cost import set_knob

    spec = plan.spec
    if not spec.options.ladder:
        return
    sizes = _refuse_unordered_rungs(plan)
    # steps are settled once: with other parameters later, a rung's runs would be of two lengths
    begun = plan.folder.plan.settled if (plan.folder.path / "study.json").exists() else {}
    variants = []
    for variant in spec.variants:
        if variant.key not in begun:
            # of the baseline's parameters: an arm with more of them gets no more tokens
            tokens = _choose_tokens(plan, variant.size, sizes[variant.size])
            settings = variant.recipe.settings
            steps = max(1, round(tokens / (settings.batch_size * settings.model.context)))
            variant = set_knob(variant, "steps", steps, "")  # the bill has a line for all rungs
        variants.append(variant)
    by_key = {variant.key: variant for variant in variants}
    baselines = {size: by_key[baseline.key] for size, baseline in spec.baselines.items()}
    largest = baselines[spec.options.ladder[-1]]
    plan.spec = replace(spec, variants=variants, baselines=baselines, project_flops=_project_compute(plan, largest))


def _refuse_unordered_rungs(plan: "Plan") -> dict[str, float]:
    """Return the baseline's parameters at each size, or refuse rungs that do not grow."""
    baselines, written = plan.spec.baselines, ",".join(plan.spec.options.ladder)
    for size in plan.spec.options.ladder:
        if size not in baselines:
            # two names of one size come out as one baseline
            raise Refused(f"ladder=[{written}]: {size} is the model of another rung here; leave {size} out")
    params = {size: plan.costs.count_costs(baseline.recipe)["params"] for size, baseline in baselines.items()}
    ordered = sorted(params, key=lambda size: params[size])
    if len({*params.values()}) < len(params):
        raise Refused(f"ladder=[{written}]: two rungs have as many parameters; name sizes that differ here")
    if ordered != [*params]:
        raise Refused(f"ladder=[{written}] goes from small to large; say ladder=[{','.join(ordered)}]")
    return params


def _choose_tokens(plan: "Plan", size: str, params: float) -> float:
    options = plan.spec.options
    if options.rung_tokens:
        return options.rung_tokens[options.ladder.index(size)]
    return options.tokens_per_parameter * params


def _project_compute(plan: "Plan", largest: "Variant") -> float | None:
    """Return the FLOPs to train the baseline at the size that gains are projected to; refuse one that is too far.

    It has as many tokens a parameter as the largest rung.
    """
    from gptlab import compose as wiring
    from gptlab.ablation.cost import count_training_tokens

    options = plan.spec.options
    if options.project is None:
        return None
    words = [word for word in largest.overrides if not word.startswith("steps=")]
    # composed anew and not scaled up: heads, batch and rate are the target's own
    words[words.index(f"model={largest.size}")] = f"model={options.project}"
    target, rung = plan.costs.count_costs(wiring.compose(words)), plan.costs.count_costs(largest.recipe)
    tokens = count_training_tokens(largest.recipe)
    flops = tokens * rung["flops_per_token"]
    projected = tokens * target["params"] / rung["params"] * target["flops_per_token"]
    if projected > options.project_limit * flops:
        raise Refused(
            f"project={options.project} would take {projected / flops:.0f} times the compute of {largest.size}, the "
            f"largest rung, and project_limit is {options.project_limit:g}; climb further, or raise project_limit"
        )
    return projected


def describe_rungs(plan: "Plan") -> list[str]:
    """Return a line for the bill with the steps, tokens and minutes of each rung; refuse more than max_minutes."""
    from gptlab.ablation.cost import count_training_tokens
    from gptlab.ablation.jobs import estimate_wall_time

    if not plan.spec.options.ladder:
        return []
    phrases, minutes = [], {}
    for size, baseline in plan.baselines.items():
        # of cells that are still to run: a rung that is done costs nothing
        seconds = [value for key, value in plan.run_seconds.items() if plan.cells[key].variant.size == size]
        minutes[size] = estimate_wall_time(seconds, plan.jobs) / 60 if seconds else 0.0
        tokens = count_training_tokens(baseline.recipe)
        share = tokens / plan.counts[baseline.key]["params"]
        steps = f"{baseline.recipe.settings.steps:,} steps, {tokens / 1e6:.3g} M tokens ({share:.3g} a parameter)"
        phrases.append(f"{size} {steps}, {format_minutes(minutes[size])}")
    most = plan.spec.max_minutes
    if most is not None and sum(minutes.values()) > most:
        rungs = ", ".join(f"{size} {format_minutes(value)}" for size, value in minutes.items())
        raise Refused(
            f"max_minutes={most:g}: this ladder takes about {format_minutes(sum(minutes.values()))} ({rungs}); leave "
            f"{plan.spec.options.ladder[-1]} out, lower tokens_per_parameter, or raise max_minutes"
        )
    return [f"rungs: {'; '.join(phrases)}"]


def run_rungs(plan: "Plan", run: Callable[[], None], console: Console) -> None:
    """Run the cells rung by rung, each without the arms that were worse at two rungs before."""
    from gptlab.ablation.lr_extension import extend_grids
    from gptlab.report.findings import compare_study_folder

    # `run` launches what plan.cells holds: rungs are added to it one by one
    cells, rungs = plan.cells, plan.spec.options.ladder
    plan.cells = {}
    for number, size in enumerate(rungs):
        hopeless: list[str] = []
        # at the third rung at the earliest: it takes two to be left out
        if number >= 2:
            strata = {stratum.size: stratum for stratum in compare_study_folder(plan.folder.path).strata}
            hopeless = find_hopeless_arms([strata[below] for below in rungs[:number] if below in strata])
        of_rung = {key: cell for key, cell in cells.items() if cell.variant.size == size}
        if plan.spec.options.tune == "transfer" and number:
            of_rung = make_carried_cells(plan, [*of_rung.values()], number)
        chosen = {key: cell for key, cell in of_rung.items() if cell.variant.name not in hopeless}
        if hopeless:
            console.print(
                f"  {size}: without {', '.join(hopeless)}, worse at two rungs; "
                f"{len(of_rung) - len(chosen)} cells of {len(of_rung)} are not run",
                markup=False,
                soft_wrap=True,
            )
        plan.cells = {**plan.cells, **chosen}
        if chosen:
            run()
        if plan.spec.options.tune == "transfer" and not number:
            extend_grids(plan, run, console, [size])
