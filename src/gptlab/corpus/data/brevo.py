"""Sorting what a node depends on (Brevo of Physics of Language Models 4.1, Allen-Zhu 2025, arXiv:2512.17351).

    a c  b d  a b  c d   ? d = a c b d ;     edges of a graph without cycles, source first, in random order; then the
                             a c b d ;       node asked for: all it depends on, each behind its own sources, and a stop

n nodes, 3 <= n <= `nodes` with a probability proportional to 1 / (n + sqrt(nodes)), and `nodes` in validation, have
names of one token each. The first l, uniform in 1 .. 1 + (n - 1) // 4, depend on nothing; each other one on 1 to
`edges` of those before it that have fewer than `edges` dependents. The last one is asked for. The order that is learnt
is one of those that are right, built from its end: of the nodes all of whose dependents stand, one is drawn. Right is
every order of the same nodes in which none stands before its sources, so an answer is judged when it is written.
Difficulty is the depth: edges from the node asked for to the nearest one that depends on nothing.
Definition: github.com/facebookresearch/PhysicsLM4; its Brevo1 has nodes=70 to 110 and edges=4. Departures: sizes for a
context of 64; one example a row; Brevo2's names of several tokens are left out; a node that is written twice is wrong.
"""

import numpy as np

from gptlab.corpus.data import Examples, SyntheticTask
from gptlab.errors import Refused
from gptlab.model.shape import IGNORED

PAD, QUERY, SIGN, STOP, FIRST = 0, 1, 2, 3, 4

Sources = dict[int, list[int]]
"""The nodes that each node depends on directly; every node is a key."""


class Brevo(SyntheticTask):
    """Graphs without cycles, told by their edges, and an order of what one node depends on.

    nodes     of the largest graphs
    edges     the most that lead into a node, and the most that lead out of it
    examples  of the validation split
    """

    has_many_answers = True

    def __init__(self, *, nodes: int = 8, edges: int = 4, examples: int = 1024) -> None:
        super().__init__(examples=examples)
        if nodes < 3 or edges < 1:
            raise Refused(f"data.nodes={nodes} is below 3, or data.edges={edges} below 1; try nodes=8 edges=4")
        self.nodes, self.edges = nodes, edges

    def symbols(self) -> list[str]:
        return [".", "?", "=", ";", *(f"n{node}" for node in range(self.nodes))]

    def count_tokens(self) -> int:
        edges = sum(min(node, self.edges) for node in range(1, self.nodes))
        # the stop is asked for, and not read
        return 2 * edges + 3 + self.nodes

    def generate(self, random: np.random.Generator, rows: int, context: int, *, judged: bool) -> Examples:
        text = np.full((rows, context + 1), PAD, np.int64)
        is_answer, depths = np.zeros((rows, context + 1), bool), np.zeros((rows, 1), np.int64)
        sizes = np.full(rows, self.nodes) if judged else self.draw_sizes(random, rows)
        for row, size in enumerate(sizes.tolist()):
            # tokens in the order in which the graph grows: each after all its sources
            names = (FIRST + random.permutation(self.nodes)[:size]).tolist()
            sources, asked = self.draw_graph(random, names), names[-1]
            needed = find_needed(sources, asked)
            edges = [(source, node) for node in names for source in sources[node]]
            tokens = []
            # the order of the edges must not tell that of the nodes
            for edge in random.permutation(len(edges)).tolist():
                tokens += edges[edge]
            tokens += [QUERY, asked, SIGN]
            answer = [*draw_order(random, sources, needed, asked), STOP]
            end = len(tokens) + len(answer)
            is_answer[row, len(tokens) : end] = True
            text[row, :end] = tokens + answer
            depths[row] = measure_depth(sources, asked)
        # loss on the answer alone; the graph itself cannot be foretold
        targets = np.where(is_answer, text, IGNORED)
        return Examples(text[:, :-1], targets[:, 1:], {"depth": depths})

    def is_right(self, question: list[int], answer: list[int]) -> bool:
        *edges, _, asked, _ = question
        if answer[-1:] != [STOP]:
            return False
        sources: Sources = {}
        for source, node in zip(edges[::2], edges[1::2], strict=True):
            sources.setdefault(source, [])
            sources.setdefault(node, []).append(source)
        order = answer[:-1]
        # sorted, not sets: a node that is written twice is wrong
        if sorted(order) != sorted(find_needed(sources, asked)):
            return False
        places = {node: place for place, node in enumerate(order)}
        return all(places[source] < place for node, place in places.items() for source in sources[node])

    def draw_sizes(self, random: np.random.Generator, rows: int) -> np.ndarray:
        """Return how many nodes the graphs of training have, (rows,)."""
        sizes = np.arange(3, self.nodes + 1)
        chances = 1 / (sizes + self.nodes**0.5)
        return random.choice(sizes, rows, p=chances / chances.sum())

    def draw_graph(self, random: np.random.Generator, names: list[int]) -> Sources:
        """Return the sources of each node, drawn for one after the other."""
        free = int(random.integers(1, (len(names) - 1) // 4 + 1, endpoint=True))
        sources: Sources = {name: [] for name in names}
        dependents = dict.fromkeys(names, 0)
        for place in range(free, len(names)):
            # never empty: the node before has no dependents yet
            possible = [name for name in names[:place] if dependents[name] < self.edges]
            count = int(random.integers(1, min(len(possible), self.edges), endpoint=True))
            for chosen in random.permutation(len(possible))[:count].tolist():
                source = possible[chosen]
                sources[names[place]].append(source)
                dependents[source] += 1
        return sources


def find_needed(sources: Sources, node: int) -> set[int]:
    """Return all that a node depends on, and itself."""
    needed, waiting = {node}, [node]
    while waiting:
        fresh = {source for source in sources[waiting.pop()] if source not in needed}
        needed |= fresh
        waiting += fresh
    return needed


def draw_order(random: np.random.Generator, sources: Sources, needed: set[int], last: int) -> list[int]:
    """Return the needed nodes in an order in which none stands before its sources."""
    waits_for = dict.fromkeys(needed, 0)  # dependents that do not stand yet
    for node in needed:
        for source in sources[node]:
            waits_for[source] += 1
    ready, order = [last], []
    while ready:
        node = ready.pop(int(random.integers(len(ready))))
        order.append(node)
        for source in sources[node]:
            waits_for[source] -= 1
            if not waits_for[source]:
                ready.append(source)
    # built from the end, read from the start
    return order[::-1]


def measure_depth(sources: Sources, node: int) -> int:
    """Return the edges from a node to the nearest one that depends on nothing."""
    depth, level = 0, {node}
    while all(sources[node] for node in level):
        level = {source for node in level for source in sources[node]}
        depth += 1
    return depth
