"""Sparsity: weights pruned by magnitude or at random, before and after further training, against a dense run.

dense                          the whole training, nothing pruned
l1, untrained sparsity=s       the same training, then pruned
l1 sparsity=s                  the same first steps, pruned, then trained for the steps that are left

All arms have the same seeds, batches and number of steps. Unstructured zeros make nothing faster: no time is claimed.
"""

from typing import ClassVar, Literal

from gptlab.config.recipe import Recipe
from gptlab.study import Study, append_change


class Prune(Study):
    """Compare sparsities and methods of pruning.

    sparsities  shares of zeros, in (0, 1)
    methods     l1, random or both
    scope       layer prunes each Linear to the sparsity, global all of them together
    last        share of the steps that come after pruning
    ramp        share of those over which the sparsity grows; 0 prunes at once
    """

    together: ClassVar[bool] = False
    shares_training: ClassVar[bool] = True

    def __init__(
        self,
        *,
        sparsities: list[float],
        methods: list[str],
        scope: Literal["layer", "global"] = "layer",
        last: float = 0.5,
        ramp: float = 0.0,
    ) -> None:
        if not sparsities or not all(0 < sparsity < 1 for sparsity in sparsities):
            raise ValueError(f"sparsities={sparsities} are not all in (0, 1); try [0.5,0.9]")
        if not methods or not {*methods} <= {"l1", "random"}:
            raise ValueError(f"methods={methods} are not of l1 and random; try [l1,random]")
        if not 0 < last < 1:
            raise ValueError(f"last={last} is not in (0, 1); 0.5 prunes half-way")
        if not 0 <= ramp <= 1:
            raise ValueError(f"ramp={ramp} is not in [0, 1]; 0 prunes at once")
        # each once: two arms of one name would be one
        self.sparsities, self.methods, self.scope = sorted({*sparsities}), [*dict.fromkeys(methods)], scope
        self.last, self.ramp = last, ramp

    def arms(self, base: Recipe) -> dict[str, list[str]]:
        steps = base.settings.steps
        start, node = round(steps * (1 - self.last)), "change.prune"
        arms: dict[str, list[str]] = {"dense": []}
        for method in self.methods:
            overrides = [append_change(base, "prune"), f"{node}.method={method}", f"{node}.scope={self.scope}"]
            for name, prune_start, ramp_steps in (
                (method, start, round(self.ramp * (steps - start))),
                # after the last step: nothing learns any more
                (f"{method}, untrained", steps, 0),
            ):
                for sparsity in self.sparsities:
                    arms[f"{name} sparsity={sparsity:g}"] = [
                        *overrides,
                        f"{node}.sparsity={sparsity}",
                        f"{node}.start={prune_start}",
                        f"{node}.ramp={ramp_steps}",
                    ]
        return arms

    def versus(self) -> list[tuple[str, str]]:
        if len(self.methods) < 2:
            return []
        # random at the same sparsity is the control: magnitudes are worth what they gain over it
        return [(f"l1 sparsity={sparsity:g}", f"random sparsity={sparsity:g}") for sparsity in self.sparsities]
