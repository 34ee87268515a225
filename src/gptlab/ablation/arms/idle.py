"""Arms whose parts or knobs do little or nothing, so that a verdict on them would say nothing of the part."""

from typing import TYPE_CHECKING

from gptlab.ablation.arms.lines import name_arms
from gptlab.config.idle_knobs import describe_idle_decay, describe_idle_knobs

if TYPE_CHECKING:
    from gptlab.ablation.cells import Variant
    from gptlab.ablation.plan import Plan


def describe_idle_arms(plan: "Plan") -> list[str]:
    """Return what does little in the arms of a training study: a line each, with its arms if it is not all of them."""
    if plan.spec.study.together:
        return []
    arms_by_line: dict[str, list[str]] = {}
    for variant in plan.variants:
        for line in describe_idle_knobs(variant.recipe.config):
            arms_by_line.setdefault(line, []).append(variant.key)
    lines = [name_arms(line, arms, plan.variants) for line, arms in arms_by_line.items()]
    for size in plan.baselines:
        lines += _describe_idle_decays([variant for variant in plan.variants if variant.size == size])
    return lines


def _describe_idle_decays(variants: "list[Variant]") -> list[str]:
    """Return a line for each arm whose decay does little, where arms differ in it and it does little in all of them."""
    from gptlab.training.branching.trunk import build_schedule

    decays = {variant.key: variant.recipe.config["optimizer"].get("weight_decay") for variant in variants}
    if len({*decays.values()}) < 2:
        return []
    lines = {}
    for variant in variants:
        for line in describe_idle_decay(variant.recipe.config, build_schedule(variant.recipe).mean()):
            lines[variant.key] = line
    # where it does something in one arm, the arms do differ in it
    if any(decay and key not in lines for key, decay in decays.items()):
        return []
    return [name_arms(line, [key], variants) for key, line in lines.items()]
