"""Whether a decoder is compiled (torch.compile): what `compile` asks for, what this machine can do, and what pays.

auto compiles at once on CUDA. On CPU it compiles a run whose training would take longer than PAYS as it is: a step
gets shorter by 11 to 15 %, compiling takes 20 s, and the same seed need not give the same numbers again. Measured
2026-11-22, torch 2.13, one thread, alternating, medians of 15: model=nano 15.7 to 13.6 ms, micro 55.5 to 47.3, mini 157
to 139.
"""

import importlib.util
import os
import shutil
from typing import Literal

from gptlab.errors import Refused

MIN_SECONDS_TO_COMPILE = 600.0
"""Seconds of training of which compiling saves about a minute, three times what it takes."""


def find_missing_dependency(device: str) -> str | None:
    """What torch.compile would need on a kind of device and does not find here."""
    if device == "cuda":
        return None if importlib.util.find_spec("triton") else "triton"
    compiler = os.environ.get("CXX", "g++")
    return None if shutil.which(compiler) else f"the C++ compiler {compiler}"


def should_compile_at_start(choice: Literal["auto", "on", "off"], device: str) -> bool:
    """True if the decoder is compiled before anything is measured."""
    missing = find_missing_dependency(device)
    if choice == "on" and missing:
        raise Refused(f"compile=on needs {missing}, which is not here; install it or use compile=off")
    return choice == "on" or (choice == "auto" and device == "cuda" and not missing)


def should_compile_long_run(choice: Literal["auto", "on", "off"], device: str, seconds: float) -> bool:
    """True if a run that would train for so many seconds as it is had better be compiled."""
    return choice == "auto" and not find_missing_dependency(device) and seconds > MIN_SECONDS_TO_COMPILE
