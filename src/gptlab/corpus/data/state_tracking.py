"""State tracking: the word problem of a group (Merrill 2024, arXiv:2404.08819; Grazzi 2024, arXiv:2411.12537).

    inputs   g1  g2     g3        ...
    targets  g1  g2 g1  g3 g2 g1  ...        the product so far, at every place

Z2 is parity. S5 is complete for NC1: a state of fixed size that is linear with positive eigenvalues cannot follow it,
nor can a transformer of fixed depth at every length.
"""

from copy import copy
from functools import cached_property
from itertools import permutations
from typing import Literal

import numpy as np

from gptlab.corpus.data import Examples, SyntheticTask, grow_length, refuse_bad_curriculum
from gptlab.errors import Refused
from gptlab.model.shape import IGNORED

DEGREES = {"z2": 2, "s3": 3, "s4": 4, "s5": 5}
"""Letters that the permutations of a group move; Z2 is S2."""


class StateTracking(SyntheticTask):
    """Products of random elements of a group of permutations.

    group          which one
    swaps          whether only exchanges of two letters (and standing still) are multiplied, or all elements
    length         elements in training; null is the whole context
    judged_length  elements in the validation split; null is as in training
    curriculum     steps in which the length of training grows to `length`; null is as long from the first
    examples       of the validation split
    """

    def __init__(
        self,
        *,
        group: Literal["z2", "s3", "s4", "s5"] = "s5",
        swaps: bool = False,
        length: int | None = None,
        judged_length: int | None = None,
        curriculum: int | None = None,
        examples: int = 1024,
    ) -> None:
        super().__init__(examples=examples)
        for name, value in (("length", length), ("judged_length", judged_length)):
            if value is not None and value < 1:
                raise Refused(f"{name}={value} is not positive; null is the context")
        refuse_bad_curriculum(curriculum, length)
        self.curriculum = curriculum
        self.elements = [*permutations(range(DEGREES[group]))]
        self.swaps, self.length, self.judged_length = swaps, length, judged_length

    @cached_property
    def products(self) -> np.ndarray:
        """The product of two elements, by their numbers, (G, G): the first is applied after the second."""
        number = {element: n for n, element in enumerate(self.elements)}
        table = np.empty((len(number), len(number)), np.int64)
        for first in self.elements:
            for second in self.elements:
                product = tuple(first[letter] for letter in second)
                table[number[first], number[second]] = number[product]
        return table

    def ease(self, step: int) -> "StateTracking":
        easier = copy(self)
        if self.length is not None:
            easier.length = grow_length(step, self.curriculum, 1, self.length)
        return easier

    def symbols(self) -> list[str]:
        return ["".join(map(str, element)) for element in self.elements]

    def count_tokens(self) -> int:
        return max(self.length or 1, self.judged_length or 1)

    def generate(self, random: np.random.Generator, rows: int, context: int, *, judged: bool) -> Examples:
        # the inputs fill the context in any case; beyond `longest` nothing is asked
        longest = ((self.judged_length or self.length) if judged else self.length) or context
        drawn = self._list_drawn()
        inputs = drawn[random.integers(0, len(drawn), (rows, context))]
        targets = np.full((rows, context), IGNORED, np.int64)
        state = np.zeros(rows, np.int64)  # the first permutation stands still
        # one place after another, all rows at once: a product is a look into a table of G x G
        for place in range(longest):
            state = self.products[inputs[:, place], state]
            targets[:, place] = state
        return Examples(inputs, targets, {"length": 1 + np.arange(context)[None]})

    def _list_drawn(self) -> np.ndarray:
        """Return the numbers of the elements that are multiplied."""
        if not self.swaps:
            return np.arange(len(self.elements))
        elements = np.array(self.elements)  # (G, letters)
        moved = (elements != np.arange(elements.shape[1])).sum(1)
        # an exchange moves two letters, and the element that stands still none
        return np.flatnonzero(moved <= 2)
