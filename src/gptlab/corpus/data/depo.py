"""Successors at k hops (Depo of Physics of Language Models 4.1, Allen-Zhu 2025, arXiv:2512.17351).

    b c  a b  c a   2> a =  c     edges of one cycle a > b > c > a in random order; then who stands 2 after a
                         c        a target stands under each token before one of the answer's

n names stand in a circle; 3 <= n <= `nodes` with a probability proportional to 1 / (n + sqrt(nodes)), and `nodes` in
validation. k is uniform in 1 .. `hops`, in validation a power of 2 or `hops` itself. Names are of `shortest` to
`longest` letters, the last of an alphabet of its own, so that a name ends by itself. Depo1 of the source has letters=50
and names of 1 or 2, nodes=225 to 375 and hops=8; Depo2 letters=3 and names of 5 to 7, nodes=75 to 125 and hops=16.
Definition: github.com/facebookresearch/PhysicsLM4. Departures: sizes for a context of 256; one example a row.
"""

import numpy as np

from gptlab.corpus.data import Examples, SyntheticTask
from gptlab.errors import Refused
from gptlab.model.shape import IGNORED

PAD, SIGN, FIRST = 0, 1, 2


class Depo(SyntheticTask):
    """A circle of names, told by its edges, and questions for successors.

    nodes      names in the largest circles
    hops       the most that are asked for at once
    questions  of each example; as many as it has names, where these are fewer
    letters    of each of the two alphabets
    shortest   letters of the shortest names
    longest    of the longest
    examples   of the validation split
    """

    def __init__(
        self,
        *,
        nodes: int = 20,
        hops: int = 4,
        questions: int = 10,
        letters: int = 50,
        shortest: int = 1,
        longest: int = 2,
        examples: int = 1024,
    ) -> None:
        super().__init__(examples=examples)
        if nodes < 3 or hops < 1 or questions < 1:
            raise Refused(
                f"data.nodes={nodes} is below 3, or data.hops={hops} or data.questions={questions} below 1; try nodes=9"
            )
        if not 1 <= shortest <= longest:
            raise Refused(f"data.shortest={shortest} is not in 1 .. data.longest={longest}; try shortest=1")
        names = sum(max(letters, 0) ** length for length in range(shortest, longest + 1))
        # names are drawn until they differ, which takes long where there are few
        if names < 2 * nodes:
            raise Refused(
                f"data.letters={letters} make {names} names, too few for data.nodes={nodes}; try letters={2 * nodes}"
            )
        self.nodes, self.hops, self.questions = nodes, hops, questions
        self.letters, self.shortest, self.longest = letters, shortest, longest

    def symbols(self) -> list[str]:
        hops = [f"{hop}>" for hop in range(1, self.hops + 1)]
        inner = [f"a{n}" for n in range(self.letters)]
        last = [f"z{n}" for n in range(self.letters)]
        return [".", "=", *hops, *inner, *last]

    def count_tokens(self) -> int:
        # the last letter of the last answer is asked for, and not read
        return 2 * self.nodes * self.longest + min(self.nodes, self.questions) * (2 * self.longest + 2) - 1

    def generate(self, random: np.random.Generator, rows: int, context: int, *, judged: bool) -> Examples:
        text = np.full((rows, context + 1), PAD, np.int64)
        is_answer, hops = np.zeros((rows, context + 1), bool), np.zeros((rows, context + 1), np.int64)
        sizes = np.full(rows, self.nodes) if judged else self.draw_sizes(random, rows)
        for row, size in enumerate(sizes.tolist()):
            names = self.draw_names(random, size)
            tokens = []
            for node in random.permutation(size):
                # an edge is two names; the circle goes by numbers, which nobody is told
                tokens += [*names[node], *names[(node + 1) % size]]
            asked = random.permutation(size)[: self.questions].tolist()
            for node, hop in zip(asked, self.draw_hops(random, len(asked), judged).tolist(), strict=True):
                answer = names[(node + hop) % size]
                tokens += [FIRST + hop - 1, *names[node], SIGN]
                place = slice(len(tokens), len(tokens) + len(answer))
                is_answer[row, place], hops[row, place] = True, hop
                tokens += answer
            text[row, : len(tokens)] = tokens
        targets = np.where(is_answer, text, IGNORED)
        return Examples(text[:, :-1], targets[:, 1:], {"hops": hops[:, 1:]})

    def draw_sizes(self, random: np.random.Generator, rows: int) -> np.ndarray:
        """Return how many names the circles of training have, (rows,)."""
        sizes = np.arange(3, self.nodes + 1)
        chances = 1 / (sizes + self.nodes**0.5)
        return random.choice(sizes, rows, p=chances / chances.sum())

    def draw_hops(self, random: np.random.Generator, count: int, judged: bool) -> np.ndarray:
        """Return the hops of so many questions."""
        if not judged:
            return random.integers(1, self.hops, count, endpoint=True)
        # difficulties that are far enough apart to be told apart
        powers = [2**power for power in range(self.hops.bit_length())]
        return random.choice(powers if powers[-1] == self.hops else [*powers, self.hops], count)

    def draw_names(self, random: np.random.Generator, count: int) -> list[list[int]]:
        """Return `count` distinct names as tokens, in random order."""
        inner = FIRST + self.hops
        names: dict[tuple[int, ...], None] = {}  # in the order in which they were drawn
        while len(names) < count:
            lengths = random.integers(self.shortest, self.longest, count, endpoint=True)
            letters = inner + random.integers(0, self.letters, (count, self.longest))
            for length, word in zip(lengths.tolist(), letters.tolist(), strict=True):
                if len(names) < count:
                    # the last letter is of the second alphabet, so that a name says where it ends
                    names[*word[: length - 1], word[length - 1] + self.letters] = None
        return [list(name) for name in names]
