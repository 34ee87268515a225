"""One matrix product over several workers: cut into pieces, multiplied apart, assembled by the parent.

C = A B is cut into (rows, inner, columns) pieces. Rows and columns need no sum; inner pieces give C in parts, each of
its whole size, which the parent adds. A recursive product halves the longest side again and again: all of its tree is
opened by the parent, since a worker that waits for work of its own pool can wait forever, and a worker of a
multiprocessing.Pool may have no children at all.

threads   in this process: BLAS releases the interpreter's lock
shared    processes that read A and B and write C in shared memory; only the piece's ranges are sent
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
    """A part of the product: (start, stop) of rows, inner and columns, and the index of its summand of C."""

    rows: tuple[int, int]
    inner: tuple[int, int]
    columns: tuple[int, int]
    summand: int


class SharedArray(NamedTuple):
    """Name and shape of an array in shared memory, as sent to workers."""

    name: str
    shape: tuple[int, ...]


def count_cuts(split: str, workers: int, depth: int, sides: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the numbers of pieces along rows, inner and columns."""
    if split == "grid":
        across = max(n for n in range(1, math.isqrt(workers) + 1) if workers % n == 0)
        return workers // across, 1, across
    cuts = [workers if split == side else 1 for side in ("rows", "inner", "columns")]
    for _ in range(depth if split == "recursive" else 0):
        # the longest side: halves stay as square as they can, and read the least for their FLOPs
        longest = max(range(3), key=lambda side: sides[side] / cuts[side])
        cuts[longest] *= 2
    return cuts[0], cuts[1], cuts[2]


def cut_product(split: str, workers: int, depth: int, sides: tuple[int, int, int]) -> list[Piece]:
    """Return all pieces of a product of sides (rows, inner, columns)."""
    ranges = []
    for side, count in zip(sides, count_cuts(split, workers, depth, sides), strict=True):
        # sizes differ by one at most, where count does not divide the side
        ends = [side * n // count for n in range(count + 1)]
        ranges.append([*pairwise(ends)])
    return [Piece(r, k, c, number) for r, (number, k), c in product(ranges[0], enumerate(ranges[1]), ranges[2])]


class Product(AbstractContextManager):
    """A B over a pool, computed at each call.

    pool     of threads, or of processes made by `make_process_pool`
    backend  one of BACKENDS
    pieces   of `cut_product`
    """

    def __init__(self, a: np.ndarray, b: np.ndarray, pool: Executor, backend: str, pieces: list[Piece]) -> None:
        self.a, self.b, self.pool, self.backend, self.pieces = a, b, pool, backend, pieces
        self.memories: list[SharedMemory] = []
        # c (summands, rows, columns): inner pieces write apart, so that no two workers add to one number
        shape = (1 + max(piece.summand for piece in pieces), a.shape[0], b.shape[1])
        if backend == "shared":
            self.shared = [self.allocate_shared(a.shape), self.allocate_shared(b.shape), self.allocate_shared(shape)]
            self.arrays = [
                view_shared(memory, array.shape) for memory, array in zip(self.memories, self.shared, strict=True)
            ]
            self.arrays[0][:], self.arrays[1][:] = a, b
        else:
            self.arrays = [a, b, np.empty(shape)]  # every number of c is written by some piece

    def allocate_shared(self, shape: tuple[int, ...]) -> SharedArray:
        """Allocate an array that processes can open by its name."""
        self.memories.append(SharedMemory(create=True, size=8 * math.prod(shape)))
        return SharedArray(self.memories[-1].name, shape)

    def __call__(self) -> np.ndarray:
        a, b, c = self.arrays
        if self.backend == "threads":
            # list() waits for all, and raises what a worker raised
            list(self.pool.map(lambda piece: multiply_piece(a, b, c, piece), self.pieces))
        elif self.backend == "shared":
            list(self.pool.map(_multiply_shared, [self.shared] * len(self.pieces), self.pieces))
        else:
            lefts = (a[slice(*piece.rows), slice(*piece.inner)] for piece in self.pieces)
            rights = (b[slice(*piece.inner), slice(*piece.columns)] for piece in self.pieces)
            for piece, part in zip(self.pieces, self.pool.map(_multiply_pickled, lefts, rights), strict=True):
                c[piece.summand, slice(*piece.rows), slice(*piece.columns)] = part
        # the parent adds: workers that add to one array would need a lock, or lose sums
        return c.sum(0) if len(c) > 1 else c[0]

    def __exit__(self, *_: Any) -> None:
        self.arrays = []  # views would keep the memory open
        for memory in self.memories:
            memory.close()
            memory.unlink()


def make_thread_pool(workers: int) -> Executor:
    """Return a pool of threads of this process."""
    return ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))


def make_process_pool(workers: int) -> Executor:
    """Return a pool of spawned processes, for both `shared` and `pickled`."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, initializer=torch.set_num_threads, initargs=(1,))


def multiply_piece(a: np.ndarray, b: np.ndarray, c: np.ndarray, piece: Piece) -> None:
    """Multiply one piece, and write it where it belongs in c (summands, rows, columns)."""
    left, right = a[slice(*piece.rows), slice(*piece.inner)], b[slice(*piece.inner), slice(*piece.columns)]
    target = c[piece.summand, slice(*piece.rows), slice(*piece.columns)]
    torch.matmul(torch.from_numpy(left), torch.from_numpy(right), out=torch.from_numpy(target))


def multiply_in_loop(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the product by a dot product for each number of C, in a loop of Python."""
    columns = np.ascontiguousarray(b.T)  # so that each dot product reads two rows
    rows = []
    for row in a:
        rows.append([row @ column for column in columns])
    return np.array(rows)


def view_shared(memory: SharedMemory, shape: tuple[int, ...]) -> np.ndarray:
    """Return shared memory as an array of float64."""
    return np.ndarray(shape, np.float64, memory.buf)


@cache
def _open_shared(shared: SharedArray) -> tuple[SharedMemory, np.ndarray]:
    """Open an array once in each worker; the memory is kept with it, since the array is a view."""
    memory = SharedMemory(shared.name)
    return memory, view_shared(memory, shared.shape)


def _multiply_shared(shared: list[SharedArray], piece: Piece) -> None:
    a, b, c = (_open_shared(SharedArray(*array))[1] for array in shared)
    multiply_piece(a, b, c, piece)


def _multiply_pickled(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return (torch.from_numpy(left) @ torch.from_numpy(right)).numpy()
