"""glibc's malloc told to keep what is freed: a training step frees and takes the same buffers again and again.

By default glibc gives the top of the heap back to the system at every step and takes it again, page by page: 1,250 page
faults a step of a default decoder at 4 x 128, which take 4 % of it (docs/log.md, 2026-11-30); with this 37. Nothing
that is computed changes. Other C libraries have no mallopt and are left as they are.
"""

import ctypes
import os
import sys
from contextlib import suppress

from gptlab.errors import refuse_unknown_word

SWITCH, WORDS = "GPTLAB_MALLOC", ("keep", "default")
"""Environment variable and its words; `default` leaves malloc as it is, to compare the two. Unset is keep."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Names of the two limits in glibc's malloc.h."""


def keep_freed_memory() -> bool:
    """Let malloc keep up to 2 GiB of freed memory, and buffers under 32 MiB on its heap; return whether it does.

    Refuses a word of the environment variable that is not known.
    """
    refuse_unknown_word(SWITCH, WORDS)
    if not sys.platform.startswith("linux") or os.environ.get(SWITCH) == "default":
        return False
    with suppress(AttributeError, OSError):  # another C library than glibc
        mallopt = ctypes.CDLL(None).mallopt
        # larger buffers come from the system at any rate: 32 MiB is the most that glibc takes as this limit
        return bool(mallopt(M_MMAP_THRESHOLD, 32 << 20) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
    return False
