"""Arms at birth: how each part is fed, before anything is trained."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gptlab.ablation.plan import Plan

LARGEST_MEASURED = 20e6
"""Parameters up to which an arm is built to see how it is fed: a fraction of a second."""


def describe_feeds(plan: "Plan") -> list[str]:
    """Return what is odd about the arms of a training study at birth, beside their baseline: a line each."""
    from gptlab.model.scale_check import describe_odd_ratios, measure_initial_ratios
    from gptlab.training.build import build_decoder

    if plan.spec.study.together:
        return []
    small = [
        variant
        for variant in plan.variants
        if plan.counts[variant.key]["params"] <= LARGEST_MEASURED and not variant.recipe.config.get("pretrained")
    ]
    ratios = {
        variant.key: measure_initial_ratios(
            build_decoder(variant.recipe, plan.costs.load_corpus(variant.recipe).tokenizer.vocab)
        )
        for variant in small
    }
    of_baselines = {size: ratios.get(variant.key, {}) for size, variant in plan.baselines.items()}
    lines = []
    for variant in small:
        for line in describe_odd_ratios(ratios[variant.key], of_baselines[variant.size]):
            lines.append(f"{variant.key}: {line}")
    skipped = [variant.key for variant in plan.variants if variant not in small]
    if skipped:
        reason = f"pretrained, or above {LARGEST_MEASURED / 1e6:.0f} M parameters"
        lines.append(f"not looked at whether parts are drowned at birth ({reason}): {', '.join(skipped)}")
    return lines
