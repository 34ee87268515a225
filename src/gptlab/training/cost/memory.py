"""Peak memory of a run: of the GPU, or of this process.

Several runs may follow each other in a process, so the mark is set back when one begins, where the system can (Linux);
elsewhere it is that of the whole process.
"""

import ctypes
import gc
import sys
from contextlib import suppress
from pathlib import Path

import torch

MARK, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def reset_peak_memory(device: torch.device) -> None:
    """Forget what was held before."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # glibc keeps what was freed
    with suppress(OSError):
        MARK.write_text("5")  # proc(5): sets the high-water mark to what is held now


def peak_bytes(device: torch.device) -> int:
    """Return the most bytes held since `reset_peak_memory`."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    if STATUS.exists():
        (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
