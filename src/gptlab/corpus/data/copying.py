"""Copying of a string (Jelassi 2024, Repeat After Me, arXiv:2402.01032).

    a d b = a d . .        after the string and a sign, the string again; targets are its letters
          a d b

Lengths are uniform. A validation split of longer strings than training has (`judged_length`) shows extrapolation.
"""

from copy import copy

import numpy as np

from gptlab.corpus.data import Examples, SyntheticTask, grow_length, refuse_bad_curriculum
from gptlab.errors import Refused
from gptlab.model.shape import IGNORED

PAD, SIGN, FIRST = 0, 1, 2


class Copying(SyntheticTask):
    """A random string, to be said again.

    letters        of the alphabet
    shortest       length of the shortest strings
    length         of the longest in training
    judged_length  of the longest in the validation split; null is as in training
    curriculum     steps in which the length of training grows to `length`; null is as long from the first
    examples       of the validation split
    """

    def __init__(
        self,
        *,
        letters: int = 26,
        shortest: int = 1,
        length: int = 24,
        judged_length: int | None = None,
        curriculum: int | None = None,
        examples: int = 1024,
    ) -> None:
        super().__init__(examples=examples)
        if letters < 2 or not 0 < shortest <= min(length, judged_length or length):
            raise Refused(
                f"shortest={shortest} is not in 1 .. length={length}, or letters={letters} is below 2; try shortest=1"
            )
        refuse_bad_curriculum(curriculum, length)
        self.curriculum = curriculum
        self.letters, self.shortest, self.length, self.judged_length = letters, shortest, length, judged_length

    def ease(self, step: int) -> "Copying":
        # a copy: batches of several steps are made at once, each with its own length
        easier = copy(self)
        easier.length = grow_length(step, self.curriculum, self.shortest, self.length)
        return easier

    def symbols(self) -> list[str]:
        return [".", "=", *(f"a{n}" for n in range(self.letters))]

    def count_tokens(self) -> int:
        return 2 * max(self.length, self.judged_length or 0)

    def generate(self, random: np.random.Generator, rows: int, context: int, *, judged: bool) -> Examples:
        longest = (self.judged_length or self.length) if judged else self.length
        length = random.integers(self.shortest, longest, (rows, 1), endpoint=True)
        string = random.integers(FIRST, FIRST + self.letters, (rows, longest))
        place = np.arange(context)[None]

        def take_letters(places: np.ndarray) -> np.ndarray:
            # clipped: what lies outside of the string is not looked at
            return np.take_along_axis(string, np.clip(places, 0, longest - 1), 1)

        # (rows, context): the letter that stands at a place, and the one that is asked for there
        given = take_letters(np.where(place < length, place, place - length - 1))
        asked = take_letters(place - length)
        inputs = np.where(place < 2 * length, np.where(place == length, SIGN, given), PAD)
        targets = np.where((length <= place) & (place < 2 * length), asked, IGNORED)
        return Examples(inputs, targets, {"length": length})
