"""Intel's OpenMP runtime in place of the one that torch brings, where it is installed (x86-64 Linux, intel-openmp).

GNU's threads wait for each other by spinning, so on a machine with other work a step of several threads takes ten times
as long and more; Intel's sleep after a while. The numbers are the same bits: both cut loops into the same parts.
No torch at the top: whichever runtime is loaded first serves all.
"""

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path

from gptlab.errors import Refused, refuse_unknown_word
from gptlab.runs.machine import count_cores

SWITCH, WORDS = "GPTLAB_OPENMP", ("intel", "torch")
"""Environment variable and its words; `torch` leaves torch its own runtime, to compare the two. Unset is intel."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OMP_THREAD_LIMIT", "MKL_NUM_THREADS", "KMP_DEVICE_THREAD_LIMIT")
"""Numbers of threads that OpenMP's runtimes and MKL read as they are loaded."""
MAX_THREADS = 65_536
"""More than any machine has cores. With 100,000,000 the runtimes hang while they are loaded (2026-12)."""
LOADED: list[ctypes.CDLL] = []
CORES: set[int] = set()
"""Cores of this process when it last forked."""


def load_openmp() -> None:
    """Load Intel's runtime, if it is there and torch is not loaded yet.

    Refuses a word that is not known, and numbers of threads that no runtime can have.
    """
    refuse_unknown_word(SWITCH, WORDS)
    refuse_odd_thread_counts()
    library = Path(sys.prefix) / "lib" / "libiomp5.so"
    if LOADED or "torch" in sys.modules or os.environ.get(SWITCH) == "torch" or not library.exists():
        return
    with suppress(OSError):  # of another machine
        # RTLD_GLOBAL: torch's libraries find its symbols here before they open GNU's
        LOADED.append(ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL))


def refuse_odd_thread_counts() -> None:
    """Raise Refused where a variable of the runtimes' own names no number of threads.

    They take another number for such a one, each its own, or are at work on their tables for minutes.
    """
    for variable in THREAD_VARIABLES:
        value = os.environ.get(variable, "").strip()
        # of nested loops OpenMP takes a number for each level: 4,2
        for count in value.split(",") if value else ():
            if not (count.strip().isdecimal() and 1 <= int(count) <= MAX_THREADS):
                raise Refused(
                    f"{variable}={value} is no number of threads from 1 to {MAX_THREADS:,}; "
                    f"leave it out, or give cores: {variable}={count_cores()}"
                )


def keep_cores_in_forks() -> None:
    """Give processes forked from this one, which has imported torch, all the cores that it has.

    Intel's runtime binds a forked process to the first core as soon as torch asks for it, in a hook of torch's own that
    runs at the fork: all workers of a study would share that core. What is called last here is called last there.
    """
    if LOADED:
        os.register_at_fork(before=_remember_cores, after_in_child=_restore_cores)


def _remember_cores() -> None:
    CORES.clear()
    CORES.update(os.sched_getaffinity(0))


def _restore_cores() -> None:
    os.sched_setaffinity(0, CORES)


def name_runtime() -> str:
    """Return which OpenMP runtime torch's threads have here: intel, or torch's own."""
    return "intel" if LOADED else "torch"
