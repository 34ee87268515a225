"""Facts by heart (Capo of Physics of Language Models 3.3, Allen-Zhu 2024, arXiv:2404.05405, and 4.1, arXiv:2512.17351).

    b d #2 v7 #1 v4 #3 v1       a name, then its attributes in random order; a target stands under each attribute
        v7    v4    v1          its value, drawn once for all, uniformly from `values`

What a decoder knows after training on N people of K attributes with D values each, and its share of the parameters:

    bits = N K (log2 D - loss / ln 2)        loss in nats an answer, over all people: val/loss
    capacity = bits / parameters             about 2 after 1,000 meetings with each fact, 1 after 100 (arXiv:2404.05405)

This is bioD of the source with names given, C = 1 chunk and L = 1 token a value; names are numbers in base `letters`.
Departures: biographies are these tokens and no sentences; the bits of the names themselves are not counted.
"""

from functools import cached_property

import numpy as np

from gptlab.corpus.data import Examples, SyntheticTask, draw_distinct
from gptlab.errors import Refused
from gptlab.model.shape import IGNORED


class Capo(SyntheticTask):
    """Attributes of people, which the weights must hold.

    people      in all; a step meets batch_size x (people of a row) of them, drawn at random
    attributes  of each
    values      that an attribute may have
    letters     of the alphabet of names
    facts       seed of the facts, which every run shares
    examples    rows of the validation split, from the first people on; null is all people
    """

    def __init__(
        self,
        *,
        people: int = 1000,
        attributes: int = 4,
        values: int = 64,
        letters: int = 32,
        facts: int = 0,
        examples: int | None = None,
    ) -> None:
        for name, value, least in (("people", people, 1), ("attributes", attributes, 1), ("values", values, 2)):
            if value < least:
                raise Refused(f"data.{name}={value} is below {least}; try {4 * least}")
        if letters < 2 or facts < 0:
            raise Refused(f"data.letters={letters} is below 2, or data.facts={facts} negative; try letters=32 facts=0")
        super().__init__(examples=people if examples is None else min(examples, people))
        self.people, self.attributes, self.values = people, attributes, values
        self.letters, self.facts = letters, facts
        self.name_length = next(length for length in range(1, 64) if letters**length >= people)

    @cached_property
    def known(self) -> np.ndarray:
        """The value of each attribute of each person, (people, attributes)."""
        return np.random.default_rng(self.facts).integers(0, self.values, (self.people, self.attributes))

    def symbols(self) -> list[str]:
        tags = [f"#{number}" for number in range(1, self.attributes + 1)]
        letters = [f"a{n}" for n in range(self.letters)]
        values = [f"v{n}" for n in range(self.values)]
        return [".", *tags, *letters, *values]

    def count_tokens(self) -> int:
        # the last value is asked for, and not read
        return self.name_length + 2 * self.attributes - 1

    def generate(self, random: np.random.Generator, rows: int, context: int, *, judged: bool) -> Examples:
        size = self.count_tokens() + 1
        # one person a row is judged, so that each is met once and reads of nobody before
        count = 1 if judged else (context + 1) // size
        who = np.arange(rows)[:, None] if judged else random.integers(0, self.people, (rows, count))
        text = np.zeros((rows, count, size), np.int64)
        digits = self.letters ** np.arange(self.name_length)[::-1]
        first_letter = 1 + self.attributes
        text[..., : self.name_length] = first_letter + who[..., None] // digits % self.letters
        # behind the name an attribute's tag and its value in turn
        tag_places, value_places = slice(self.name_length, None, 2), slice(self.name_length + 1, None, 2)
        order = draw_distinct(random, rows * count, self.attributes, self.attributes).reshape(rows, count, -1)
        text[..., tag_places] = 1 + order
        text[..., value_places] = first_letter + self.letters + np.take_along_axis(self.known[who], order, 2)
        places = np.zeros(text.shape, np.int64)  # of an attribute among those of its person, from 1; 0 elsewhere
        places[..., value_places] = 1 + np.arange(self.attributes)
        # one token more than the context, so that inputs and targets are the same row, shifted
        text = fill_row(text.reshape(rows, -1), context + 1)
        places = fill_row(places.reshape(rows, -1), context + 1)[:, 1:]
        return Examples(text[:, :-1], np.where(places > 0, text[:, 1:], IGNORED), {"place": places})


def fill_row(part: np.ndarray, length: int) -> np.ndarray:
    """Return (rows, N) as whole numbers, padded by 0 to (rows, length)."""
    filled = np.zeros((len(part), length), np.int64)
    filled[:, : part.shape[1]] = part
    return filled
