"""Arms of a measurement, run one after another: an error is the result of its arm, and the time has an end."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SECTION_S = 300
"""Seconds after which a section in a process of its own is given up."""
Result = dict[str, Any]
OPTIONS: dict[str, str] = {}
"""Words of the command line, as minutes=10."""
START = time.monotonic()


def is_time_up() -> bool:
    """Return whether nothing further is to be begun."""
    return time.monotonic() - START > 60 * float(OPTIONS.get("minutes", 10))


def measure_arms(arms: dict[str, Callable[[], Any]]) -> Result:
    """Return what each arm says of itself; of one that fails the error, and of one too late that it was."""
    return {name: "the time was up" if is_time_up() else run_section(arm) for name, arm in arms.items()}


def run_section(section: Callable[[], Any]) -> Any:
    """Run a section; an error is its result."""
    try:
        return section()
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"}
