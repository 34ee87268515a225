"""Imports of the server that workers are forked from, in their order: the OpenMP runtime comes before torch."""

from gptlab.runs.malloc import keep_freed_memory
from gptlab.runs.openmp import keep_cores_in_forks, load_openmp

load_openmp()
# forked workers inherit it
keep_freed_memory()

import gptlab.ablation.pool  # noqa: E402
import gptlab.compose  # noqa: E402
import gptlab.training.run  # noqa: E402, F401

keep_cores_in_forks()
