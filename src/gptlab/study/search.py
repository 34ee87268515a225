"""Searches of one space against each other: samplers by their best so far, and what is done to each trial.

none                      trained for all steps
compressed                trained for all steps, then rounded and pruned, and judged as that
compressed, then trained  rounded and pruned half-way, and trained on as that: as many steps in all

All searches have as many trials, and a point that one has trained the others need not train again. `repeats` are the
same sampler under other seeds, of which the report draws a band; the seeds of training stay the same.
"""

from typing import ClassVar

from gptlab.config.recipe import Recipe
from gptlab.study import Search, Study, following

SAMPLERS = ("grid", "random", "tpe")
STRATEGIES = {"none": None, "compressed": 1.0, "compressed, then trained": 0.5}
"""The share of the steps after which a trial is compressed."""


class Searches(Study):
    """strategies: of those above. width, sparsity: of compressed trials, in fixed point with as many bits, and zeros by
    magnitude in each layer."""

    together: ClassVar[bool] = False
    design: ClassVar[str | None] = "search"

    def __init__(
        self,
        *,
        samplers: list[str],
        repeats: int = 3,
        strategies: list[str],
        width: int = 8,
        sparsity: float = 0.5,
    ) -> None:
        for name, found, known in (("samplers", samplers, SAMPLERS), ("strategies", strategies, (*STRATEGIES,))):
            if not found or not {*found} <= {*known}:
                raise ValueError(f"{name}={found} are not of {', '.join(known)}; give some of these")
        if repeats < 1:
            raise ValueError(f"repeats={repeats} searches nothing; 3 show a band")
        if not 2 <= width <= 32:
            raise ValueError(f"width={width} is not in 2 .. 32; try 8")
        if not 0 < sparsity < 1:
            raise ValueError(f"sparsity={sparsity} is not in (0, 1); try 0.5")
        self.samplers, self.repeats, self.strategies = samplers, repeats, strategies
        self.width, self.sparsity = width, sparsity

    def searches(self, sampler: str, base: Recipe) -> list[Search]:
        found = []
        for kind in self.samplers:
            for strategy in self.strategies:
                name = kind if len(self.strategies) == 1 else f"{kind}, {strategy}"
                for repeat in range(self.repeats):
                    label = "" if strategy == "none" else strategy
                    found.append(Search(name, kind, repeat, self.words(base, STRATEGIES[strategy]), label))
        return found

    def words(self, base: Recipe, share: float | None) -> tuple[str, ...]:
        """What compresses a trial after a share of its steps."""
        if share is None:
            return ()
        start = round(share * base.settings.steps)
        both = following(base, "quantize").removesuffix("]") + ",prune]"
        rounded = ("format@change.quantize.weight=integer", "change.quantize.weight.fraction_width=tensor")
        width = (f"change.quantize.weight.width={self.width}", f"change.quantize.start={start}")
        return (both, *rounded, *width, f"change.prune.sparsity={self.sparsity}", f"change.prune.start={start}")
