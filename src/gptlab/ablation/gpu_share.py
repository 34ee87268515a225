"""Share the machine among the cells that run on it at once: threads by count, GPUs one each.

This happens before torch is imported, since both are settled then.
"""

import os
import sys
from pathlib import Path
from typing import IO

from gptlab.runs.file_lock import try_lock
from gptlab.runs.machine import count_cores

GPU_LOCKS: list[IO[str]] = []
"""The lock of this process's GPU, held as long as it lives."""


def limit_to_share(jobs: int, locks: Path) -> None:
    """Limit this process to its part of the machine, if it is one of several jobs."""
    # once torch is there, its threads and GPUs are settled (workers of our pool: limit_worker)
    if jobs == 1 or "torch" in sys.modules:
        return
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, count_cores() // jobs)))
    visible = list_gpus()
    if len(visible) > 1 and not GPU_LOCKS:
        os.environ["CUDA_VISIBLE_DEVICES"] = claim_gpu(visible, locks)


def list_gpus() -> list[str]:
    """Return the GPUs that this process may use, without torch."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name for name in chosen.split(",") if name]
    cards = Path("/proc/driver/nvidia/gpus")
    return [str(index) for index in range(len([*cards.iterdir()]))] if cards.is_dir() else []


def claim_gpu(gpus: list[str], locks: Path, place: int | None = None) -> str:
    """Return a GPU that no other job holds.

    With more jobs than GPUs they share, by `place`, the job's number among those at once, or by process id.
    """
    locks.mkdir(parents=True, exist_ok=True)
    for gpu in gpus:
        path = locks / f"gpu-{gpu.replace('/', '_')}.lock"
        file = path.open("w")
        if try_lock(file, path):
            GPU_LOCKS.append(file)
            return gpu
        file.close()
    # more jobs than GPUs were asked for: they share, evenly where each knows its place
    return gpus[(os.getpid() if place is None else place) % len(gpus)]
