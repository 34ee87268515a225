"""Sparsity: the smallest weights left out or any, before and after training goes on without them, against a dense run.

dense                          the whole training, nothing left out
l1, untrained sparsity=s       the same training, then pruned
l1 sparsity=s                  the same first steps, pruned, then trained for the steps that are left

All arms have the same seeds, batches and number of steps. Zeros in no pattern make nothing faster: no time is claimed.
"""

from typing import ClassVar, Literal

from gptlab.config.recipe import Recipe
from gptlab.study import Study, following


class Prune(Study):
    """sparsities: in (0, 1). last: the share of the steps that come after pruning. ramp: the share of those over which
    it is pruned little by little."""

    together: ClassVar[bool] = False

    def __init__(
        self,
        *,
        sparsities: list[float],
        methods: list[str],
        scope: Literal["layer", "global"] = "layer",
        last: float = 0.5,
        ramp: float = 0.0,
    ) -> None:
        if not sparsities or not all(0 < one < 1 for one in sparsities):
            raise ValueError(f"sparsities={sparsities} are not all in (0, 1); try [0.5,0.9]")
        if not methods or not {*methods} <= {"l1", "random"}:
            raise ValueError(f"methods={methods} are not of l1 and random; try [l1,random]")
        if not 0 < last < 1:
            raise ValueError(f"last={last} is not in (0, 1); 0.5 prunes half-way")
        if not 0 <= ramp <= 1:
            raise ValueError(f"ramp={ramp} is not in [0, 1]; 0 prunes at once")
        self.sparsities, self.methods, self.scope = sorted({*sparsities}), [*dict.fromkeys(methods)], scope
        self.last, self.ramp = last, ramp

    def arms(self, base: Recipe) -> dict[str, list[str]]:
        steps = base.settings.steps
        start, node = round(steps * (1 - self.last)), "change.prune"
        found: dict[str, list[str]] = {"dense": []}
        for method in self.methods:
            kind = [following(base, "prune"), f"{node}.method={method}", f"{node}.scope={self.scope}"]
            for name, at, ramp in (
                (method, start, round(self.ramp * (steps - start))),
                (f"{method}, untrained", steps, 0),
            ):
                for share in self.sparsities:
                    found[f"{name} sparsity={share:g}"] = [
                        *kind,
                        f"{node}.sparsity={share}",
                        f"{node}.start={at}",
                        f"{node}.ramp={ramp}",
                    ]
        return found

    def versus(self) -> list[tuple[str, str]]:
        if len(self.methods) < 2:
            return []
        return [(f"l1 sparsity={share:g}", f"random sparsity={share:g}") for share in self.sparsities]
