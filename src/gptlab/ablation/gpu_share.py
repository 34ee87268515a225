"""This machine shared out among the cells that run on it at once: threads by count, GPUs one each. Before torch is
imported, since both are settled then."""

import fcntl
import os
import sys
from pathlib import Path
from typing import IO

HELD: list[IO[str]] = []
"""The lock of this process's GPU, as long as it lives."""


def share(jobs: int, locks: Path) -> None:
    """Takes this process's part of the machine, if it is one of several jobs."""
    if jobs == 1 or "torch" in sys.modules:
        return
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    there = gpus()
    if len(there) > 1 and not HELD:
        os.environ["CUDA_VISIBLE_DEVICES"] = free(there, locks)


def gpus() -> list[str]:
    """The GPUs that this process may use, without torch."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [one for one in chosen.split(",") if one]
    cards = Path("/proc/driver/nvidia/gpus")
    return [str(index) for index in range(len([*cards.iterdir()]))] if cards.is_dir() else []


def free(there: list[str], locks: Path) -> str:
    """A GPU that no other job holds; with more jobs than GPUs they share, in turn."""
    locks.mkdir(parents=True, exist_ok=True)
    for gpu in there:
        file = (locks / f"gpu-{gpu.replace('/', '_')}.lock").open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            continue
        HELD.append(file)
        return gpu
    return there[os.getpid() % len(there)]
