"""Induction heads (Olsson 2022, arXiv:2209.11895; as a task of one question: Gu & Dao 2023, Mamba, arXiv:2312.00752).

c a ! d b a c b !        a sign, and once more at the end: what followed it?
                d
"""

import numpy as np

from gptlab.corpus.data import Examples, SyntheticTask
from gptlab.errors import Refused
from gptlab.model.shape import IGNORED

SIGN = 0


class Induction(SyntheticTask):
    """A sign among random letters, and a question for the letter after it.

    letters   of the alphabet
    examples  of the validation split
    """

    def __init__(self, *, letters: int = 16, examples: int = 1024) -> None:
        super().__init__(examples=examples)
        if letters < 2:
            raise Refused(f"letters={letters} leaves nothing to ask; try 16")
        self.letters = letters

    def symbols(self) -> list[str]:
        return ["!", *(f"a{n}" for n in range(self.letters))]

    def count_tokens(self) -> int:
        return 3

    def generate(self, random: np.random.Generator, rows: int, context: int, *, judged: bool) -> Examples:
        inputs = random.integers(1, 1 + self.letters, (rows, context))
        place = random.integers(0, context - 2, (rows, 1))
        targets = np.full((rows, context), IGNORED, np.int64)
        targets[:, -1:] = np.take_along_axis(inputs, place + 1, 1)
        np.put_along_axis(inputs, place, SIGN, 1)
        inputs[:, -1] = SIGN
        return Examples(inputs, targets, {"gap": context - 2 - place})
