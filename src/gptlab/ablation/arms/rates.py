"""Learning rates of arms whose optimizers or schedules want other ones, named in the bill where none is tuned."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gptlab.ablation.cells import Variant
    from gptlab.ablation.plan import Plan

RATED_SLOTS = ("optimizer", "schedule")
"""Slots whose choices want other learning rates: steps of another size, other means over the run."""


def describe_untuned_rates(plan: "Plan") -> list[str]:
    """Return a line where arms of a size have other optimizers or schedules and none has its rate tuned."""
    if plan.spec.study.together or plan.spec.options.tune != "shared":
        return []
    advice = "tune=grid finds each arm's best"
    if plan.spec.options.campaign:
        advice += ", in a campaign with confirm=5"
    lines = []
    for size in plan.spec.baselines:
        variants = [variant for variant in plan.variants if variant.size == size]
        slots = [slot for slot in RATED_SLOTS if _differ_in(slot, variants)]
        if not slots:
            continue
        rates = [f"{variant.name} at {variant.recipe.config['optimizer']['lr']:g}" for variant in variants]
        start = f"{size}: " if size else ""
        difference = f"arms differ in {' and '.join(slots)}, each at its usual learning rate"
        lines.append(f"{start}{difference}: {', '.join(rates)}; {advice}")
    return lines


def _differ_in(slot: str, variants: "list[Variant]") -> bool:
    return len({variant.recipe.choices.get(slot) for variant in variants}) > 1
