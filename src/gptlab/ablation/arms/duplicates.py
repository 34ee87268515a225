"""Arms that are left out because their runs would be another arm's, and axes that change nothing."""

from gptlab.ablation import design
from gptlab.ablation.arms.same_function import find_same_functions
from gptlab.ablation.cells import Variant, hash_without_seed
from gptlab.ablation.options import StudyOptions
from gptlab.config.recipe import Recipe, set_values
from gptlab.errors import Refused
from gptlab.runs.study_folder import was_trained
from gptlab.stats.labels import find_arm


def refuse_without_effect(axes: dict[str, list[str]], variants: dict[design.Arm, Variant]) -> None:
    """Refuse axes that change nothing; `variants` are by their point, a value for each axis."""
    signatures = {point: hash_without_seed(variant.recipe) for point, variant in variants.items()}
    if dead := design.find_dead_axes(axes, signatures):
        others = (
            " ".join(f"{key}={values[0]}" for key, values in axes.items() if key not in dead) or "the rest as it is"
        )
        raise Refused(
            "\nerror: ".join(
                f"{axis} has no effect with {others}: {'/'.join(axes[axis])} say the same" for axis in dead
            )
        )


def drop_duplicates(variants: list[Variant]) -> tuple[list[Variant], list[str]]:
    """Return variants whose runs would differ, and notes on those left out."""
    unique: dict[str, Variant] = {}
    notes = []
    for variant in variants:
        first = unique.setdefault(hash_without_seed(variant.recipe), variant)
        if first is not variant and first.key != variant.key:
            notes.append(f"{variant.key} is {first.key} here: left out")
    return [*unique.values()], notes


def drop_same_functions(
    variants: list[Variant], base: Recipe, options: StudyOptions
) -> tuple[list[Variant], list[str]]:
    """Return variants that train apart, and notes on those that are another one under a second name.

    The one that stays is the baseline where it is one of them, else the first. What has been trained already under the
    study's first seed is not compared: that takes torch, and its losses will tell.
    """
    ordered = sorted(variants, key=lambda variant: not _is_baseline(variant, variants, base, options))
    seed = options.blocks[0]
    if all(was_trained(set_values(variant.recipe, seed=seed)) for variant in variants):
        return variants, []
    same = find_same_functions({variant.key: variant.recipe for variant in ordered})
    notes = [
        f"{name} and {first} are one arm with two names, the same function at this context and depth: "
        f"{name} is left out"
        for name, first in same.items()
    ]
    kept = [variant for variant in variants if variant.key not in same]
    if same and len(kept) < 2:
        raise Refused(f"{notes[0].partition(':')[0]}, so nothing is left to compare; give another arm")
    return kept, notes


def _is_baseline(variant: Variant, variants: list[Variant], base: Recipe, options: StudyOptions) -> bool:
    if options.baseline is not None:
        return variant.name == find_arm(options.baseline, {arm.name: arm.values for arm in variants})
    return hash_without_seed(variant.recipe) == hash_without_seed(base)
