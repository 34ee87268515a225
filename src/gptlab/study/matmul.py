"""One matrix product over several workers (`matmul`), against BLAS with one thread, with many, and a loop in Python.

Each product is held against BLAS before it is timed, within the bound of any order of summing: |difference| <=
2 K eps |A| |B|, number by number. A product of N has 2 N^3 FLOPs on 24 N^2 bytes, N / 12 a byte: small ones are
bound by what is sent. `faster from N`: from this size on, the median is below that of one thread. Pools are made
before, as is shared memory; github.com/ravidcohen1/dle-assignment makes a pool in every call, cuts along the inner side
alone, and calls the many-threaded BLAS naive.
"""

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from gptlab.config.recipe import Recipe
from gptlab.errors import Refused
from gptlab.stats.measurements import Row
from gptlab.stats.timing import AA_CONTROL
from gptlab.study import Build, Study

ONE, MANY, LOOP = "BLAS, one thread", "BLAS, all threads", "loop"
LOOPED = 256
"""The largest N for the loop, which takes seconds beyond."""


class Matmul(Study):
    """sizes: N of N x N. depth: of the recursive product, 2^depth pieces."""

    def __init__(
        self,
        *,
        sizes: list[int],
        splits: list[str],
        backends: list[str],
        workers: int = 2,
        depth: int = 3,
        rounds: int = 8,
    ) -> None:
        for name, value in (("workers", workers), ("depth", depth), ("rounds", rounds)):
            if value < 1:
                raise ValueError(f"{name}={value} is less than 1; give 1 or more")
        least = max(workers, 2**depth)
        if not sizes or min(sizes) < least:
            raise ValueError(f"sizes={sizes} must be some of at least {least}, the number of pieces; give larger ones")
        self.sizes, self.splits, self.backends = sizes, splits, backends
        self.workers, self.depth, self.rounds = workers, depth, rounds

    def check(self, arms: dict[str, Recipe]) -> None:
        from gptlab.study.tools.parallel_matmul import BACKENDS, SPLITS

        if len(arms) > 1:
            raise Refused("study=matmul has no model, so that its arms would be alike; leave the axes out")
        for name, asked, known in (("splits", self.splits, SPLITS), ("backends", self.backends, BACKENDS)):
            for one in asked:
                if one not in known:
                    raise Refused(f"study.{name}={one} is not known; choose from {', '.join(known)}")
        shared = Path("/dev/shm")
        if "shared" in self.backends and shared.exists():  # more than there is ends the process without a word
            need, free = self.nbytes(), shutil.disk_usage(shared).free
            if need > free:
                told = f"study.sizes={self.sizes} need {need >> 20} MiB of shared memory, {free >> 20} are free"
                raise Refused(f"{told}; give smaller ones, fewer study.splits, or study.backends=[threads,pickled]")

    def nbytes(self) -> int:
        """Shared memory of all products, which workers keep open: A, B and each summand of C."""
        from gptlab.study.tools.parallel_matmul import counts

        along = [counts(split, self.workers, self.depth, (n, n, n))[1] for n in self.sizes for split in self.splits]
        sides = [n for n in self.sizes for _ in self.splits]
        return sum(8 * n * n * (2 + summands) for n, summands in zip(sides, along, strict=True))

    def __call__(self, arms: dict[str, Recipe], block: int, build: Build, folder: Path) -> list[Row]:
        from gptlab.study.tools import parallel_matmul as matmul

        rows, medians = [], {}
        with ExitStack() as pools:
            pool: dict[str, Any] = {}
            if "threads" in self.backends:
                pool["threads"] = pools.enter_context(matmul.threads(self.workers))
            if {"shared", "pickled"} & {*self.backends}:
                pool["shared"] = pool["pickled"] = pools.enter_context(matmul.processes(self.workers))
            for size in self.sizes:
                times = self.timed(size, block, pool)
                rows += [Row(name, block, f"ms N={size}", ms) for name, ms in times.items()]
                medians[size] = times
        return rows + [Row(name, block, "faster from N", size) for name, size in overtaken(medians).items()]

    def timed(self, size: int, seed: int, pool: dict[str, Any]) -> dict[str, list[float]]:
        """Milliseconds of every way at one size, each held against BLAS before."""
        import numpy as np
        import torch

        from gptlab.study.tools import parallel_matmul as matmul
        from gptlab.study.tools.timing import turns

        draws, many = np.random.default_rng(seed), torch.get_num_threads()
        a, b = draws.standard_normal((size, size)), draws.standard_normal((size, size))
        left, right = torch.from_numpy(a), torch.from_numpy(b)
        whole = partial(torch.matmul, left, right)
        wanted, bound = whole().numpy(), 2 * size * np.finfo(float).eps * (abs(a) @ abs(b))
        with ExitStack() as made:
            ways: dict[str, Callable[[], Any]] = {}
            for backend in self.backends:
                for split in self.splits:
                    cut = matmul.pieces(split, self.workers, self.depth, (size, size, size))
                    way = made.enter_context(matmul.Product(a, b, pool[backend], backend, cut))
                    ways[f"{backend} {split}"] = way
            if size <= LOOPED:
                ways[LOOP] = partial(matmul.naive, a, b)
            for name, way in ways.items():
                if not (abs(way() - wanted) <= bound).all():
                    raise ValueError(f"{name}: N={size} differs from BLAS by more than any order of summing can")
            acts = {ONE: partial(on, 1, whole), MANY: partial(on, many, whole), AA_CONTROL: partial(on, 1, whole)}
            acts |= {name: partial(on, 1, way) for name, way in ways.items()}
            try:
                return turns(acts, float("inf"), self.rounds)
            finally:
                torch.set_num_threads(many)


def on(threads: int, act: Callable[[], Any]) -> None:
    """Acts with so many BLAS threads in this process."""
    import torch

    torch.set_num_threads(threads)
    act()


def overtaken(times: dict[int, dict[str, list[float]]]) -> dict[str, int]:
    """The size from which on a way is faster than one thread, of those that are at the largest."""
    import statistics

    found = {}
    for name in times[max(times)]:
        if name in (ONE, AA_CONTROL):
            continue
        for size in sorted(times, reverse=True):
            here = times[size]
            if statistics.median(here[name]) >= statistics.median(here[ONE]):
                break
            found[name] = size
    return found
