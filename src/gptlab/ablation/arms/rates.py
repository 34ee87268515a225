"""Learning rates of arms whose optimizers or schedules want other ones, named in the bill where none is tuned."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gptlab.ablation.cells import Variant
    from gptlab.ablation.plan import Plan

RATED_SLOTS = ("optimizer", "schedule")
"""Slots whose choices want other learning rates: steps of another size, other means over the run."""
MEASURED_MULTIPLES = {
    ("position", "learned"): "3.3 times its rate at nano and micro (docs/decision_accuracy.md)",
    ("optimizer", "soap"): "2 to 4 times its rate at nano (docs/parts.md)",
}
"""Choices that were tuned here and learned best at another multiple of the rate that they have, by slot and name."""


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
        start = f"{size}: " if size else ""
        slots = [slot for slot in RATED_SLOTS if _differ_in(slot, variants)]
        if slots:
            rates = [f"{variant.name} at {variant.recipe.config['optimizer']['lr']:g}" for variant in variants]
            difference = f"arms differ in {' and '.join(slots)}, and no learning rate is tuned"
            lines.append(f"{start}{difference}: {', '.join(rates)}; {advice}")
        for (slot, choice), multiple in MEASURED_MULTIPLES.items():
            has_choice = any(variant.recipe.choices.get(slot) == choice for variant in variants)
            # where an arm sets a rate, the rates are the question
            if has_choice and _differ_in(slot, variants) and not _any_sets_rate(variants):
                lines.append(f"{start}{slot}={choice} was best at {multiple}; {advice}")
    return lines


def _differ_in(slot: str, variants: "list[Variant]") -> bool:
    return len({variant.recipe.choices.get(slot) for variant in variants}) > 1


def _any_sets_rate(variants: "list[Variant]") -> bool:
    return any(word.startswith("optimizer.lr=") for variant in variants for word in variant.overrides)
