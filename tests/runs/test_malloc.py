"""Memory that a step frees stays with the process, and nothing that is computed changes."""

import os
import platform
import subprocess
import sys

import pytest

from gptlab.runs.malloc import SWITCH

TAKE_AND_FREE = """
import ctypes, resource
from gptlab.runs.malloc import keep_freed_memory
kept = keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
def turn():
    buffers = [libc.malloc(1 << 20) for _ in range(16)]
    for buffer in buffers:
        libc.memset(buffer, 1, 1 << 20)
    for buffer in buffers:
        libc.free(buffer)
turn()
turn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    turn()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_buffers_that_are_freed_are_taken_again_without_page_faults():
    kept, faults = count_faults({})
    assert kept == "True"
    untouched, faults_by_default = count_faults({SWITCH: "default"})
    assert untouched == "False"
    # 16 MiB are 4,096 pages, ten times; by default they are given back each time
    assert int(faults) < 400 < int(faults_by_default)


def count_faults(environment: dict[str, str]) -> list[str]:
    """Return whether memory is kept, and how many pages were faulted in, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", TAKE_AND_FREE], env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()
