"""Multi-query associative recall (Zoology, Arora 2023, arXiv:2312.04927; github.com/HazyResearch/zoology).

    k1 v1 k2 v2 ... kn vn  . . k2 . . . . k1 . .        a target stands under a key that comes again: its value
                               v2         v1

Keys are distinct, values too. After the pairs each key comes once more, at an even place whose rank r has the
probability r^(power - 1): near places are likelier, as text repeats its bigrams. Places between are random tokens.
"""

import numpy as np

from gptlab.corpus.data import Examples, SyntheticTask, draw_distinct
from gptlab.errors import Refused
from gptlab.model.shape import IGNORED


class MultiQueryRecall(SyntheticTask):
    """Pairs of key and value, then the keys again.

    vocab     tokens; the first half are keys, the second values
    pairs     how many, or several numbers, of which an example has any
    power     exponent of the gaps; 1 makes all places as likely
    noise     whether places that ask nothing hold random tokens, or all the first one
    examples  of the validation split
    """

    def __init__(
        self,
        *,
        vocab: int = 8192,
        pairs: int | list[int] = 4,
        power: float = 0.01,
        noise: bool = True,
        examples: int = 3000,
    ) -> None:
        super().__init__(examples=examples)
        self.pairs = [pairs] if isinstance(pairs, int) else sorted(pairs)
        if not self.pairs or self.pairs[0] < 1:
            raise Refused(f"pairs={pairs} is not positive; try 4")
        if vocab < 2 * self.pairs[-1] + 2:
            raise Refused(f"vocab={vocab} has not two halves of {self.pairs[-1]} pairs; try {4 * self.pairs[-1]}")
        self.vocab, self.power, self.noise = vocab, power, noise

    def symbols(self) -> list[str]:
        half = self.vocab // 2
        keys = [f"k{n}" for n in range(1, half)]  # number 0 is the blank
        values = [f"v{n}" for n in range(self.vocab - half)]
        return [".", *keys, *values]

    def count_tokens(self) -> int:
        # the pairs, and as many even places again
        return 4 * self.pairs[-1]

    def generate(self, random: np.random.Generator, rows: int, context: int, *, judged: bool) -> Examples:
        inputs = np.zeros((rows, context), np.int64)
        targets = np.full((rows, context), IGNORED, np.int64)
        gaps, pairs = np.zeros((rows, context), np.int64), random.choice(self.pairs, rows)
        half = self.vocab // 2
        # all rows with as many pairs at once
        for count in self.pairs:
            chosen = np.flatnonzero(pairs == count)
            keys = 1 + draw_distinct(random, len(chosen), half - 1, count)
            values = half + draw_distinct(random, len(chosen), self.vocab - half, count)
            ranks = self._draw_ranks(random, len(chosen), (context - 2 * count) // 2, count)
            places = 2 * (count + ranks)  # even ones behind the pairs, (rows, count)
            inputs[chosen, : 2 * count : 2], inputs[chosen, 1 : 2 * count : 2] = keys, values
            inputs[chosen[:, None], places], targets[chosen[:, None], places] = keys, values
            # tokens from the value, at 2 i + 1, to the key that asks for it
            gaps[chosen[:, None], places] = places - 2 * np.arange(count) - 1
        if self.noise:
            # drawn from the whole vocabulary: with few symbols noise repeats keys (docs/log.md, 2026-11-29)
            inputs = np.where(inputs == 0, random.integers(0, self.vocab, inputs.shape), inputs)
        return Examples(inputs, targets, {"pairs": pairs[:, None], "gap": gaps})

    def _draw_ranks(self, random: np.random.Generator, rows: int, space: int, count: int) -> np.ndarray:
        """Return `count` distinct ranks below `space` for each row, drawn one after another by the power law."""
        log_p = (self.power - 1) * np.log(np.arange(1, space + 1))
        # the order of log p + Gumbel noise is that of drawing without replacement
        return np.argsort(-(log_p + random.gumbel(size=(rows, space))), axis=1)[:, :count]
