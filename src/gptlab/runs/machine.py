"""Cores and memory of this machine that a process may use, and how busy it is. No torch."""

import os
import time
from contextlib import suppress
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def count_cores() -> int:
    """Return the number of CPU cores that this process may use at once, at least 1.

    A container's quota (cgroup v2) counts too: threads beyond it wait for each other.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # no cgroup v2, or no quota: "max 100000"
        quota, period = (CGROUP / "cpu.max").read_text().split()
        cores = min(cores, round(int(quota) / int(period)))
    return max(1, cores)


def measure_busy_cores(seconds: float = 0.25) -> float:
    """Return how many cores other processes kept busy in a moment in which this one slept.

    Where the system does not count a moment (not Linux), the load of the last minute.
    """
    before = _read_core_times()
    if before is None:
        return os.getloadavg()[0]
    time.sleep(seconds)
    busy, total = (after - first for after, first in zip(_read_core_times() or before, before, strict=True))
    return busy / total * (os.cpu_count() or 1) if total else 0.0


def _read_core_times() -> tuple[int, int] | None:
    """Return the ticks that all cores have worked since the start, and all their ticks."""
    with suppress(OSError, ValueError):
        ticks = [*map(int, Path("/proc/stat").read_text().partition("\n")[0].split()[1:9])]
        return sum(ticks) - ticks[3] - ticks[4], sum(ticks)  # idle, and waiting for a disk
    return None


def read_available_memory() -> int | None:
    """Return the bytes that can be taken without swapping, None where the system does not say."""
    available = [free for free in (_read_system_memory(), _read_container_memory()) if free is not None]
    return min(available, default=None)


def _read_system_memory() -> int | None:
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) * 1024
    return None


def _read_container_memory() -> int | None:
    """Return the free bytes under a container's limit; its page cache can be given back, and counts as free."""
    with suppress(OSError, ValueError):  # no cgroup v2, or no limit: "max"
        limit, used = (int((CGROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        stat = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        return max(0, limit - used + int(stat.get("inactive_file", 0)))
    return None
