"""Selective copying (Gu & Dao 2023, Mamba, arXiv:2312.00752, after Jing 2019): letters among blanks, to be said again.

    . a . . d b . . = = =        under the signs at the end stand the letters in their order
                    a d b

As there the answers are not fed back: the signs say nothing of what was written before.
"""

import numpy as np

from gptlab.corpus.data import Examples, SyntheticTask, draw_distinct
from gptlab.errors import Refused
from gptlab.model.shape import IGNORED

BLANK, SIGN, FIRST = 0, 1, 2


class SelectiveCopying(SyntheticTask):
    """Letters at random places, to be said in order.

    letters   of the alphabet
    count     letters of an example
    examples  of the validation split
    """

    def __init__(self, *, letters: int = 16, count: int = 16, examples: int = 1024) -> None:
        super().__init__(examples=examples)
        if letters < 2 or count < 1:
            raise Refused(f"count={count} or letters={letters} leaves nothing to copy; try count=16 letters=16")
        self.letters, self.count = letters, count

    def symbols(self) -> list[str]:
        return [".", "=", *(f"a{n}" for n in range(self.letters))]

    def count_tokens(self) -> int:
        return 2 * self.count

    def generate(self, random: np.random.Generator, rows: int, context: int, *, judged: bool) -> Examples:
        field, count = context - self.count, self.count
        # in order, so that the letters are asked for as they came
        places = np.sort(draw_distinct(random, rows, field, count), axis=1)
        string = random.integers(FIRST, FIRST + self.letters, (rows, count))
        inputs = np.full((rows, context), BLANK, np.int64)
        targets, gaps = np.full((rows, context), IGNORED, np.int64), np.zeros((rows, context), np.int64)
        np.put_along_axis(inputs, places, string, 1)
        inputs[:, field:], targets[:, field:] = SIGN, string
        # tokens from where a letter stands to where it is asked for
        gaps[:, field:] = field + np.arange(count) - places
        return Examples(inputs, targets, {"gap": gaps})
