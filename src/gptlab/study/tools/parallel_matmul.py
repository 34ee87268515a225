"""One matrix product over several workers: cut into pieces, multiplied apart, put together by the parent.

C = A B is cut into (rows, inner, columns) pieces. Rows and columns need no sum; inner pieces give C in parts, each of
its whole size, which the parent adds. A recursive product halves the longest side again and again: all of its tree is
opened by the parent, since a worker that waits for work of its own pool can wait forever, and a worker of a
multiprocessing.Pool may have no children at all.

threads   in this process: BLAS lets go of the interpreter
shared    processes that read A and B and write C in shared memory; only the piece's place is sent
pickled   processes that are sent their parts of A and B, and send back their part of C

Workers live as long as the pool and have one BLAS thread each. They are spawned: a fork of a process in which OpenMP
has run can hang.
"""

import math
import multiprocessing
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cache
from itertools import pairwise, product
from multiprocessing.shared_memory import SharedMemory
from typing import Any, NamedTuple

import numpy as np
import torch

SPLITS = ("rows", "columns", "inner", "grid", "recursive")
BACKENDS = ("threads", "shared", "pickled")


class Piece(NamedTuple):
    """A part of the product: (from, to) of rows, inner and columns, and which of the summands of C it belongs to."""

    rows: tuple[int, int]
    inner: tuple[int, int]
    columns: tuple[int, int]
    summand: int


class Held(NamedTuple):
    """An array in shared memory."""

    name: str
    shape: tuple[int, ...]


def counts(split: str, workers: int, depth: int, sides: tuple[int, int, int]) -> tuple[int, int, int]:
    """Pieces along rows, inner and columns."""
    if split == "grid":
        across = max(n for n in range(1, math.isqrt(workers) + 1) if workers % n == 0)
        return workers // across, 1, across
    found = [workers if split == side else 1 for side in ("rows", "inner", "columns")]
    for _ in range(depth if split == "recursive" else 0):
        longest = max(range(3), key=lambda side: sides[side] / found[side])
        found[longest] *= 2
    return found[0], found[1], found[2]


def pieces(split: str, workers: int, depth: int, sides: tuple[int, int, int]) -> list[Piece]:
    """All pieces of a product of sides (rows, inner, columns)."""
    cuts = []
    for side, count in zip(sides, counts(split, workers, depth, sides), strict=True):
        ends = [side * n // count for n in range(count + 1)]
        cuts.append([*pairwise(ends)])
    return [Piece(r, k, c, number) for r, (number, k), c in product(cuts[0], enumerate(cuts[1]), cuts[2])]


class Product(AbstractContextManager):
    """A B over a pool, again and again: `pool` is of threads, or of processes made by `processes`."""

    def __init__(self, a: np.ndarray, b: np.ndarray, pool: Executor, backend: str, cut: list[Piece]) -> None:
        self.a, self.b, self.pool, self.backend, self.cut = a, b, pool, backend, cut
        self.memories: list[SharedMemory] = []
        shape = (1 + max(piece.summand for piece in cut), a.shape[0], b.shape[1])
        if backend == "shared":
            self.held = [self.share(a.shape), self.share(b.shape), self.share(shape)]
            self.arrays = [attached(memory, one.shape) for memory, one in zip(self.memories, self.held, strict=True)]
            self.arrays[0][:], self.arrays[1][:] = a, b
        else:
            self.arrays = [a, b, np.empty(shape)]

    def share(self, shape: tuple[int, ...]) -> Held:
        """An array that processes can open by its name."""
        self.memories.append(SharedMemory(create=True, size=8 * math.prod(shape)))
        return Held(self.memories[-1].name, shape)

    def __call__(self) -> np.ndarray:
        a, b, c = self.arrays
        if self.backend == "threads":
            list(self.pool.map(lambda piece: multiplied(a, b, c, piece), self.cut))
        elif self.backend == "shared":
            list(self.pool.map(_in_place, [self.held] * len(self.cut), self.cut))
        else:
            lefts = (a[slice(*piece.rows), slice(*piece.inner)] for piece in self.cut)
            rights = (b[slice(*piece.inner), slice(*piece.columns)] for piece in self.cut)
            for piece, part in zip(self.cut, self.pool.map(_sent, lefts, rights), strict=True):
                c[piece.summand, slice(*piece.rows), slice(*piece.columns)] = part
        return c.sum(0) if len(c) > 1 else c[0]

    def __exit__(self, *_: Any) -> None:
        self.arrays = []  # views would keep the memory open
        for memory in self.memories:
            memory.close()
            memory.unlink()


def threads(workers: int) -> Executor:
    """Threads of this process."""
    return ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))


def processes(workers: int) -> Executor:
    """Processes that were spawned, for both ways to give them numbers."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, initializer=torch.set_num_threads, initargs=(1,))


def multiplied(a: np.ndarray, b: np.ndarray, c: np.ndarray, piece: Piece) -> None:
    """One piece, written where it belongs."""
    left, right = a[slice(*piece.rows), slice(*piece.inner)], b[slice(*piece.inner), slice(*piece.columns)]
    into = c[piece.summand, slice(*piece.rows), slice(*piece.columns)]
    torch.matmul(torch.from_numpy(left), torch.from_numpy(right), out=torch.from_numpy(into))


def naive(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A dot product for each number of C, in a loop of Python."""
    columns = np.ascontiguousarray(b.T)
    return np.array([[row @ column for column in columns] for row in a])


def attached(memory: SharedMemory, shape: tuple[int, ...]) -> np.ndarray:
    """Shared memory as float64."""
    return np.ndarray(shape, np.float64, memory.buf)


@cache
def _opened(held: Held) -> tuple[SharedMemory, np.ndarray]:
    memory = SharedMemory(held.name)
    return memory, attached(memory, held.shape)


def _in_place(held: list[Held], piece: Piece) -> None:
    a, b, c = (_opened(Held(*one))[1] for one in held)
    multiplied(a, b, c, piece)


def _sent(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return (torch.from_numpy(left) @ torch.from_numpy(right)).numpy()
