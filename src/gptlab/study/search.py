"""Searches of one space against each other: samplers by their best so far, and compression of each trial.

none                      trained for all steps
compressed                trained for all steps, then rounded and pruned, and judged so
compressed, then trained  rounded and pruned half-way, and trained on: as many steps in all

All searches have as many trials, and a point that one has trained the others need not train again. `repeats` are the
same sampler under other seeds, of which the report draws a band; the seeds of training stay the same.
"""

from typing import ClassVar

from gptlab.config.recipe import Recipe
from gptlab.study import Search, Study, append_change

SAMPLERS = ("grid", "random", "tpe")
STRATEGIES = {"none": None, "compressed": 1.0, "compressed, then trained": 0.5}
"""Share of the steps after which a trial is compressed, None for never, by strategy."""


class Searches(Study):
    """Compare samplers and compression strategies.

    samplers    grid, random, tpe
    repeats     searches by each sampler, under other seeds
    strategies  names of STRATEGIES
    width       bits of a compressed trial's weights, in fixed point
    sparsity    share of its zeros, by magnitude in each layer
    """

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
        for name, given, known in (("samplers", samplers, SAMPLERS), ("strategies", strategies, (*STRATEGIES,))):
            if not given or not {*given} <= {*known}:
                raise ValueError(f"{name}={given} are not of {', '.join(known)}; give some of these")
        if repeats < 1:
            raise ValueError(f"repeats={repeats} searches nothing; 3 show a band")
        if not 2 <= width <= 32:
            raise ValueError(f"width={width} is not in 2 .. 32; try 8")
        if not 0 < sparsity < 1:
            raise ValueError(f"sparsity={sparsity} is not in (0, 1); try 0.5")
        self.samplers, self.repeats, self.strategies = samplers, repeats, strategies
        self.width, self.sparsity = width, sparsity

    def searches(self, sampler: str, base: Recipe) -> list[Search]:
        searches = []
        for search_sampler in self.samplers:
            for strategy in self.strategies:
                name = search_sampler if len(self.strategies) == 1 else f"{search_sampler}, {strategy}"
                label = "" if strategy == "none" else strategy
                # the same for all repeats, so that a trial of one is a trial of the others too
                words = self.make_overrides(base, STRATEGIES[strategy])
                for repeat in range(self.repeats):
                    searches.append(Search(name, search_sampler, repeat=repeat, words=words, label=label))
        return searches

    def make_overrides(self, base: Recipe, share: float | None) -> tuple[str, ...]:
        """Return the words that compress a trial after a share of its steps, none where it is None."""
        if share is None:
            return ()
        start = round(share * base.settings.steps)
        # rounded before it is pruned: a format without a 0 would otherwise fill the holes
        changes = append_change(base, "quantize").removesuffix("]") + ",prune]"
        rounding = ("format@change.quantize.weight=integer", "change.quantize.weight.fraction_width=tensor")
        width = (f"change.quantize.weight.width={self.width}", f"change.quantize.start={start}")
        return (changes, *rounding, *width, f"change.prune.sparsity={self.sparsity}", f"change.prune.start={start}")
