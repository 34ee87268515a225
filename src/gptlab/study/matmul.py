"""Time of one matrix product over several workers, against BLAS with one thread, with many, and a loop in Python.

Each product is compared with BLAS before it is timed, within the bound of any order of summing: |difference| <= 2 K eps
|A| |B|, number by number. A product of N has 2 N^3 FLOPs on 24 N^2 bytes, N / 12 a byte: small ones are bound by what
is sent. `faster from N`: from this size on, the median is below that of one thread. Pools and shared memory are set up
off the clock; github.com/ravidcohen1/dle-assignment makes a pool in every call, cuts along the inner side alone, and
calls the many-threaded BLAS naive.
"""

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from gptlab.config.recipe import Recipe
from gptlab.errors import Refused
from gptlab.stats.labels import label_arm
from gptlab.stats.measurements import Row
from gptlab.stats.timing import AA_CONTROL
from gptlab.study import Build, Study

ONE_THREAD, ALL_THREADS, LOOP = "BLAS, one thread", "BLAS, all threads", "loop"
MAX_LOOP_SIZE = 256
"""Largest N for the loop, which takes seconds beyond."""


class Matmul(Study):
    """Time parallel matrix products.

    sizes     N of N x N, in float64
    splits    how products are cut into pieces: rows, columns, inner, grid, recursive
    backends  threads, shared, pickled
    workers   number of threads or processes
    depth     of the recursive product, which has 2^depth pieces
    rounds    rounds in which all products of a size are timed, interleaved
    """

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
        # each piece has a row at least
        least = max(workers, 2**depth)
        if not sizes or min(sizes) < least:
            raise ValueError(f"sizes={sizes} must be some of at least {least}, the number of pieces; give larger ones")
        self.sizes, self.splits, self.backends = sizes, splits, backends
        self.workers, self.depth, self.rounds = workers, depth, rounds

    def check(self, arms: dict[str, Recipe]) -> None:
        from gptlab.study.tools.parallel_matmul import BACKENDS, SPLITS

        if len(arms) > 1:
            raise Refused("study=matmul has no model, so that its arms would be alike; leave the axes out")
        for name, chosen, known in (("splits", self.splits, SPLITS), ("backends", self.backends, BACKENDS)):
            for value in chosen:
                if value not in known:
                    raise Refused(f"study.{name}={value} is not known; choose from {', '.join(known)}")
        shared = Path("/dev/shm")
        if "shared" in self.backends and shared.exists():  # more than there is ends the process without a word
            needed, free = self.count_shared_bytes(), shutil.disk_usage(shared).free
            if needed > free:
                problem = f"study.sizes={self.sizes} need {needed >> 20} MiB of shared memory, {free >> 20} are free"
                raise Refused(f"{problem}; give smaller ones, fewer study.splits, or study.backends=[threads,pickled]")

    def count_shared_bytes(self) -> int:
        """Return the shared memory of all products, which workers keep open: A, B and each summand of C."""
        from gptlab.study.tools.parallel_matmul import count_cuts

        total = 0
        for n in self.sizes:
            for split in self.splits:
                _, summands, _ = count_cuts(split, self.workers, self.depth, (n, n, n))
                total += 8 * n * n * (2 + summands)  # float64
        return total

    def __call__(self, arms: dict[str, Recipe], block: int, build: Build, folder: Path) -> list[Row]:
        from gptlab.study.tools import parallel_matmul as matmul

        rows, times_by_size = [], {}
        with ExitStack() as stack:
            pool_by_backend: dict[str, Any] = {}
            if "threads" in self.backends:
                pool_by_backend["threads"] = stack.enter_context(matmul.make_thread_pool(self.workers))
            if {"shared", "pickled"} & {*self.backends}:
                # one pool for both: they differ in how numbers get to the workers
                pool_by_backend["shared"] = pool_by_backend["pickled"] = stack.enter_context(
                    matmul.make_process_pool(self.workers)
                )
            for size in self.sizes:
                times = self.time_products(size, block, pool_by_backend)
                values = (("", "ms"), ("N", str(size)))
                # the size belongs to the metric, so that all products of one N are compared with each other
                metric = label_arm(values)
                rows += [Row(name, block, metric, ms, metric_values=values) for name, ms in times.items()]
                times_by_size[size] = times
        return rows + [Row(name, block, "faster from N", size) for name, size in find_crossovers(times_by_size).items()]

    def time_products(self, size: int, seed: int, pool_by_backend: dict[str, Any]) -> dict[str, list[float]]:
        """Return milliseconds of every product of one size, each compared with BLAS before."""
        import numpy as np
        import torch

        from gptlab.study.tools import parallel_matmul as matmul
        from gptlab.study.tools.timing import time_interleaved

        generator, all_threads = np.random.default_rng(seed), torch.get_num_threads()
        a, b = generator.standard_normal((size, size)), generator.standard_normal((size, size))
        left, right = torch.from_numpy(a), torch.from_numpy(b)
        multiply_by_blas = partial(torch.matmul, left, right)
        # number by number, for sums of N products in any order (Higham 2002, Accuracy and Stability, section 3.5)
        reference, bound = multiply_by_blas().numpy(), 2 * size * np.finfo(float).eps * (abs(a) @ abs(b))
        with ExitStack() as stack:
            products: dict[str, Callable[[], Any]] = {}
            for backend in self.backends:
                for split in self.splits:
                    pieces = matmul.cut_product(split, self.workers, self.depth, (size, size, size))
                    product = stack.enter_context(
                        matmul.Product(a, b, pool_by_backend[backend], backend=backend, pieces=pieces)
                    )
                    products[f"{backend} {split}"] = product
            # a loop of Python takes 2 N^3 steps
            if size <= MAX_LOOP_SIZE:
                products[LOOP] = partial(matmul.multiply_in_loop, a, b)
            for name, product in products.items():
                if not (abs(product() - reference) <= bound).all():
                    raise ValueError(f"{name}: N={size} differs from BLAS by more than any order of summing can")
            # workers have one BLAS thread each, so the parent has one too while they work
            actions = {
                ONE_THREAD: partial(run_with_threads, 1, multiply_by_blas),
                ALL_THREADS: partial(run_with_threads, all_threads, multiply_by_blas),
                AA_CONTROL: partial(run_with_threads, 1, multiply_by_blas),
            }
            actions |= {name: partial(run_with_threads, 1, product) for name, product in products.items()}
            try:
                return time_interleaved(actions, float("inf"), self.rounds)
            finally:
                # later sizes and studies in this process expect all threads
                torch.set_num_threads(all_threads)


def run_with_threads(threads: int, action: Callable[[], Any]) -> None:
    """Run an action with `threads` BLAS threads in this process."""
    import torch

    torch.set_num_threads(threads)
    action()


def find_crossovers(times: dict[int, dict[str, list[float]]]) -> dict[str, int]:
    """Return the size from which on a product is faster than one thread, of those that are at the largest size."""
    import statistics

    crossovers = {}
    for name in times[max(times)]:
        if name in (ONE_THREAD, AA_CONTROL):
            continue
        # from the largest down: faster from N on means at N and at all larger sizes
        for size in sorted(times, reverse=True):
            size_times = times[size]
            if statistics.median(size_times[name]) >= statistics.median(size_times[ONE_THREAD]):
                break
            crossovers[name] = size
    return crossovers
