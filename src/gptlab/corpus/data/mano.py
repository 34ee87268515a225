"""Arithmetic in one's head (Mano of Physics of Language Models 4.1, Allen-Zhu 2025, arXiv:2512.17351).

    n2 * + 7 4 9 =  n1 - 3 8 = .      prefix notation modulo 23; a target stands under each sign: the value
                 7           18

An expression of l operations, l uniform in 1 .. `operations` in training and the most in validation, splits the others
uniformly between its two sides; operators and numbers are uniform. Definition: github.com/facebookresearch/PhysicsLM4.
Departures: one token for each sign where the source draws one of two; expressions follow each other in a row while they
fit, and the sign of the length begins each, without another.
"""

from typing import Literal

import numpy as np

from gptlab.corpus.data import Examples, SyntheticTask
from gptlab.errors import Refused
from gptlab.model.shape import IGNORED

OPERATORS = {"+": np.add, "-": np.subtract, "*": np.multiply}
PAD, SIGN = 0, 1
FIRST_OPERATOR = 2


class Mano(SyntheticTask):
    """Expressions in prefix notation, and their values.

    operations  of the longest expressions; 10, 13 and 16 in the source
    modulus     of all numbers
    operators   which there are; null is all three
    examples    rows of the validation split
    """

    def __init__(
        self,
        *,
        operations: int = 10,
        modulus: int = 23,
        operators: list[Literal["+", "-", "*"]] | None = None,
        examples: int = 1024,
    ) -> None:
        super().__init__(examples=examples)
        self.operators = ["+", "-", "*"] if operators is None else list(operators)
        if operations < 1:
            raise Refused(f"data.operations={operations} is not positive; try 10")
        if modulus < 2:
            raise Refused(f"data.modulus={modulus} leaves one number; try 23")
        if not self.operators or len({*self.operators}) < len(self.operators):
            raise Refused(f"data.operators={self.operators} are none, or one of them twice; try [+,-,*]")
        self.operations, self.modulus = operations, modulus

    def symbols(self) -> list[str]:
        lengths = [f"n{count}" for count in range(1, self.operations + 1)]
        return [".", "=", *self.operators, *lengths, *map(str, range(self.modulus))]

    def count_tokens(self) -> int:
        return 2 * self.operations + 3

    def generate(self, random: np.random.Generator, rows: int, context: int, *, judged: bool) -> Examples:
        # an expression of l operations is a length, 2 l + 1 signs and numbers, a sign and its value, which is asked for
        # one token earlier
        most = (context + 1) // 6
        counts = random.integers(self.operations if judged else 1, self.operations, (rows, most), endpoint=True)
        ends = (2 * counts + 4).cumsum(1)
        row, number = np.nonzero(ends <= context + 1)
        # a row whose first is too long has none: its context holds the longest, so this cannot be
        counts, starts = counts[row, number], (ends - 2 * counts - 4)[row, number]
        body, values = self.draw_expressions(random, counts)
        text = np.full((rows, context + 1), PAD, np.int64)
        text[row, starts] = FIRST_OPERATOR + len(self.operators) + counts - 1
        inside = np.arange(body.shape[1])[None] < 2 * counts[:, None] + 1
        expression, place = np.nonzero(inside)
        text[row[expression], starts[expression] + 1 + place] = body[inside]
        asked = starts + 2 * counts + 2
        text[row, asked], text[row, asked + 1] = SIGN, values
        targets, operations = np.full((rows, context), IGNORED, np.int64), np.zeros((rows, context), np.int64)
        targets[row, asked], operations[row, asked] = values, counts
        return Examples(text[:, :-1], targets, {"operations": operations})

    def draw_expressions(self, random: np.random.Generator, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return expressions of so many operations (N,) as tokens (N, longest), padded, and their values as tokens.

        All expressions grow by one token at a time, from a stack of the operations that each open side still needs.
        """
        size, every = 2 * self.operations + 1, np.arange(len(counts))
        zero = FIRST_OPERATOR + len(self.operators) + self.operations  # the token of the number 0
        stack = np.zeros((len(counts), size + 1), np.int64)
        stack[:, 0] = counts
        top = np.zeros(len(counts), np.int64)  # place of the side that is next; -1 where all are closed
        body, is_open = np.full((len(counts), size), PAD, np.int64), np.ones(len(counts), bool)
        for place in range(size):
            needed = stack[every, np.maximum(top, 0)]
            # both drawn for all expressions, whichever they need here
            operator = random.integers(0, len(self.operators), len(counts))
            left = random.integers(0, np.maximum(needed, 1))  # operations of the left side
            number = random.integers(0, self.modulus, len(counts))
            token = np.where(needed > 0, FIRST_OPERATOR + operator, zero + number)
            body[:, place] = np.where(is_open, token, PAD)
            # a number closes its side; an operator opens two, of which the left is next
            splits = is_open & (needed > 0)
            stack[every[splits], top[splits]] = (needed - 1 - left)[splits]
            stack[every[splits], top[splits] + 1] = left[splits]
            top = np.where(splits, top + 1, np.where(is_open, top - 1, top))
            is_open = top >= 0
        return body, zero + self.compute_values(body, zero)

    def compute_values(self, body: np.ndarray, zero: int) -> np.ndarray:
        """Return the values (N,) of expressions in prefix notation, read from their ends: numbers wait on a stack."""
        every, stack = np.arange(len(body)), np.zeros((len(body), body.shape[1] + 2), np.int64)
        top = np.ones(len(body), np.int64)  # two slots below the first, for what padding looks at
        for token in body.T[::-1]:
            first, second = stack[every, top], stack[every, top - 1]
            value = token - zero
            for number, name in enumerate(self.operators):
                result = OPERATORS[name](first, second) % self.modulus
                value = np.where(token == FIRST_OPERATOR + number, result, value)
            is_number, is_operator = token >= zero, (token >= FIRST_OPERATOR) & (token < zero)
            top = top + is_number - is_operator
            stack[every, top] = np.where(is_number | is_operator, value, stack[every, top])
        return stack[every, top]
