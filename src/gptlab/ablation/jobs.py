"""Number of cells that run at once on this machine, and how long a study takes then.

One cell has one thread by default (`trainer.threads=1` in conf/ablate.yaml), so as many fit as there are cores; on GPUs
as many as there are GPUs. The numbers of a study do not depend on it.
"""

import heapq
from collections.abc import Iterable
from typing import Literal, NamedTuple

from gptlab.ablation.gpu_share import list_gpus
from gptlab.config.recipe import Recipe
from gptlab.runs.machine import count_cores, read_available_memory

BYTES_PER_PARAMETER = 16
"""Of a cell in training: a weight, its gradient and two moments in float32."""


class Jobs(NamedTuple):
    """Cells at once, and a sentence on why they are fewer than asked for, or ""."""

    count: int
    note: str = ""


def choose_jobs(option: int | Literal["auto"], recipes: Iterable[Recipe]) -> int:
    """Return how many cells of these recipes run at once, memory aside: as `jobs=` says, or what the machine has."""
    if option != "auto":
        return option
    return max(1, min((count_fitting_cells(recipe) for recipe in recipes), default=1))


def count_fitting_cells(recipe: Recipe) -> int:
    """Return how many cells of a recipe have a GPU each, or all the cores that they ask for."""
    trainer = recipe.config["trainer"]
    processes = trainer.get("devices", 1) * trainer.get("nodes", 1)
    gpus = list_gpus() if trainer.get("accelerator", "cpu") != "cpu" else []
    cores = count_cores()
    threads = trainer.get("threads") or cores  # null leaves the choice to torch, which takes all
    return len(gpus) // processes if gpus else cores // (processes * threads)


def limit_by_memory(jobs: int, bytes_per_cell: float) -> Jobs:
    """Return as many of the jobs as fit into the memory that is free, and never none."""
    free = read_available_memory()
    if free is None or jobs * bytes_per_cell <= free:
        return Jobs(jobs)
    # one always runs: an estimate is no reason to refuse
    fitting = max(1, int(free / bytes_per_cell))
    if fitting >= jobs:
        return Jobs(jobs)
    sizes = f"one takes about {bytes_per_cell / 1e9:.1f} GB and {free / 1e9:.1f} GB are free"
    return Jobs(fitting, f"{fitting} at once, not {jobs}: {sizes}")


def estimate_cell_memory(parameters: Iterable[float], peak_bytes: float) -> float:
    """Return the bytes of the largest cell, from the peak of this process, which has taken steps of all arms.

    It held the weights and moments of every arm, where a cell holds those of one.
    """
    # what is left without them is activations, and torch itself
    states = [BYTES_PER_PARAMETER * count for count in parameters]
    return max(peak_bytes - sum(states), 0.0) + max(states, default=0.0)


def estimate_wall_time(seconds: Iterable[float], jobs: int) -> float:
    """Return the seconds until the last cell ends, if each begins as soon as one of `jobs` workers is free."""
    # ends[0] of a heap is the worker that is free first
    ends = [0.0] * max(1, jobs)
    for duration in seconds:
        heapq.heapreplace(ends, ends[0] + duration)
    return max(ends)
