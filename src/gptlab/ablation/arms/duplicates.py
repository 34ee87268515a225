"""Arms that are left out because their runs would be another arm's, and axes that change nothing."""

from gptlab.ablation import design
from gptlab.ablation.arms.same_function import find_same_functions
from gptlab.ablation.cells import Variant, hash_without_seed
from gptlab.config.recipe import set_values
from gptlab.errors import Refused
from gptlab.runs.study_folder import was_trained


def refuse_without_effect(axes: dict[str, list[str]], points: list[design.Arm], variants: list[Variant]) -> None:
    """Refuse axes that change nothing anywhere.

    points    a value for each axis
    variants  of all points at the first rung or in the first task, then at the next
    """
    signatures = dict.fromkeys(points, "")
    # all sizes together: an axis may matter at one of them alone
    for number, variant in enumerate(variants if points else ()):
        # variants repeat the points, once for each rung or task
        signatures[points[number % len(points)]] += hash_without_seed(variant.recipe)
    if dead := design.find_dead_axes(axes, signatures):
        words = [f"{key}={values[0]}" for key, values in axes.items() if key not in dead]
        others = " ".join(words) or "the rest as it is"
        lines = [f"{axis} has no effect with {others}: {'/'.join(axes[axis])} say the same" for axis in dead]
        raise Refused("\nerror: ".join(lines))


def drop_duplicates(variants: list[Variant], has_tasks: bool) -> tuple[list[Variant], list[str]]:
    """Return variants whose runs would differ, and notes on those left out; refuse tasks that are one task."""
    unique: dict[str, Variant] = {}
    notes = []
    for variant in variants:
        # the first of equals stays, in the order of the command line
        first = unique.setdefault(hash_without_seed(variant.recipe), variant)
        # two tasks with the same data would judge the same runs twice
        if has_tasks and first.size != variant.size and first.name == variant.name:
            raise Refused(f"{variant.key} is {first.key} here, the same under another name; leave one of them out")
        if first is not variant and first.key != variant.key:
            notes.append(f"{variant.key} is {first.key} here: left out")
    return [*unique.values()], notes


def drop_same_functions(
    variants: list[Variant], baselines: dict[str, Variant], seed: int
) -> tuple[list[Variant], list[str]]:
    """Return variants that train apart, and notes on those that are another one of their size under a second name.

    The one that stays is the baseline where it is one of them, else the first. What has been trained already under the
    study's first `seed` is not compared: that takes torch, and its losses will tell.
    """
    if all(was_trained(set_values(variant.recipe, seed=seed)) for variant in variants):
        return variants, []
    same: dict[str, str] = {}
    for size, baseline in baselines.items():
        # the baseline first, since the first of a function is the one that stays
        recipes = {baseline.key: baseline.recipe}
        recipes |= {variant.key: variant.recipe for variant in variants if variant.size == size}
        same |= find_same_functions(recipes)
    notes = [
        f"{name} and {first} are one arm with two names, the same function at this context and depth: "
        f"{name} is left out"
        for name, first in same.items()
    ]
    remaining = [variant for variant in variants if variant.key not in same]
    # baselines alone
    if same and len(remaining) <= len(baselines):
        raise Refused(f"{notes[0].partition(':')[0]}, so nothing is left to compare; give another arm")
    return remaining, notes
