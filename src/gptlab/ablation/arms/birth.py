"""Arms at birth: how each part is fed, before anything is trained."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gptlab.ablation.plan import Plan

LARGEST_MEASURED = 20e6
"""Parameters up to which an arm is built to see how it is fed: a fraction of a second."""


def describe_feeds(plan: "Plan") -> list[str]:
    """Return a line for each oddity of an arm at birth that its baseline has not, for training studies."""
    from gptlab.model.scale_check import describe_odd_ratios, measure_initial_ratios
    from gptlab.training.build import build_decoder

    if plan.spec.study.together:
        return []
    ratios, skipped = {}, []
    for variant in plan.variants:
        if plan.counts[variant.key]["params"] > LARGEST_MEASURED or variant.recipe.config.get("pretrained"):
            skipped.append(variant.key)
            continue
        vocab = plan.costs.load_corpus(variant.recipe).tokenizer.vocab
        ratios[variant.key] = measure_initial_ratios(build_decoder(variant.recipe, vocab))
    lines = []
    for variant in plan.variants:
        if variant.key in ratios:
            of_baseline = ratios.get(plan.baselines[variant.size].key, {})
            for line in describe_odd_ratios(ratios[variant.key], of_baseline):
                lines.append(f"{variant.key}: {line}")
    if skipped:
        reason = f"pretrained, or above {LARGEST_MEASURED / 1e6:.0f} M parameters"
        lines.append(f"not looked at whether parts are drowned at birth ({reason}): {', '.join(skipped)}")
    return lines
