"""Number of CPU threads of a process that leaves the choice to us."""

import os
from functools import cache

import torch

from gptlab.runs.machine import measure_busy_cores
from gptlab.runs.openmp import name_runtime

DEFAULT_THREADS = torch.get_num_threads()
"""Number of CPU threads that torch chose for this machine at the start."""


@cache
def choose_threads() -> int:
    """Return the CPU threads of a process that leaves the choice to us: one a core, chosen once.

    Where threads wait for each other by spinning, cores that others keep busy are left to them: a thread on such a core
    makes all others wait.
    """
    # Intel's threads sleep instead of spinning, and a number that the user gave is not ours to change
    if name_runtime() == "intel" or "OMP_NUM_THREADS" in os.environ or DEFAULT_THREADS == 1:
        return DEFAULT_THREADS
    return max(1, DEFAULT_THREADS - round(measure_busy_cores()))
