"""Trackers beside W&B, by name in tracking.to. Each copies the rows of a run; the run folder stays the truth.

Whatever a mirror raises is said once and ends it, without harm to the run. It keeps nothing back: a row that was logged
survives a SIGKILL, and is not logged again by the process that goes on from the last checkpoint.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from gptlab.config.factory import locate
from gptlab.config.menu import list_choices, read_choice
from gptlab.errors import Refused

WANDB = "wandb"


@dataclass(frozen=True)
class MirroredRun:
    """What a mirror is told of its run.

    outputs  the folder that holds all runs
    id       unlike that of any other run
    config   flat: choices by slot, seed, sizes, steps, batch_size, optimizer.lr
    """

    outputs: Path
    project: str
    id: str
    name: str
    group: str | None
    config: dict[str, Any]


class Mirror:
    """Contract of the slot: __init__(run) opens it, also for a run that goes on."""

    package: ClassVar[str]
    """The library that it imports, where it is used."""
    last_steps: Mapping[str, int] = MappingProxyType({})
    """As it was opened: the last step of each number that it had, and under `sample` of its texts."""

    def __init__(self, run: MirroredRun) -> None:
        raise NotImplementedError

    def read_last_steps(self) -> dict[str, int]:
        """Return the last step of each number that an earlier process of this run logged, and of `sample`."""
        return {}

    def select_new(self, step: int, numbers: dict[str, float]) -> dict[str, float]:
        """Return the numbers of a row that are not there yet: a run that goes on takes some steps again."""
        return {key: value for key, value in numbers.items() if step > self.last_steps.get(key, -1)}

    def log_metrics(self, step: int, numbers: dict[str, float]) -> None:
        """Log the numbers of a row."""
        raise NotImplementedError

    def log_sample(self, step: int, text: str) -> None:
        """Log a generated text."""
        raise NotImplementedError

    def finish(self, summary: dict[str, Any]) -> None:
        """Write the summary and close."""
        raise NotImplementedError


def check_mirrors(names: list[str]) -> None:
    """Refuse a name that is no tracker, one that is given twice, and a tracker whose library is not installed."""
    setting = f"tracking.to=[{','.join(names)}]"
    known = [WANDB, *list_choices("mirror")]
    for name in names:
        if name not in known:
            raise Refused(f"{setting}: there is no tracker {name}; choose from {', '.join(sorted(known))}")
        if names.count(name) > 1:
            raise Refused(f"{setting} names {name} twice; name each once")
    for _, kind in _find_classes(names):
        # found, not imported: mlflow alone takes seconds
        if find_spec(kind.package) is None:
            raise Refused(f"{setting}: {kind.package} is not installed here; run: pip install 'gptlab[trackers]'")


def open_mirrors(names: list[str], run: MirroredRun) -> dict[str, Mirror]:
    """Open the mirrors of a list, W&B aside."""
    mirrors: dict[str, Mirror] = {}
    for name, kind in _find_classes(names):
        try:
            mirrors[name] = kind(run)
        except Exception as error:  # a library may raise anything
            line = " ".join(str(error).split())
            raise Refused(
                f"tracking.to: {name} cannot be opened: {type(error).__name__}: {line}; leave it out"
            ) from error
        # what cannot be read, as where a kill cut a line short, is logged twice and not lost
        with suppress(Exception):
            mirrors[name].last_steps = mirrors[name].read_last_steps()
    return mirrors


def _find_classes(names: list[str]) -> Iterator[tuple[str, type[Mirror]]]:
    for name in names:
        if name != WANDB:
            kind: Any = locate(read_choice("mirror", name)["_target_"], "mirror")
            yield name, kind


def name_summary(summary: dict[str, Any]) -> dict[str, float]:
    """Return the numbers of a summary under names of their own, which no row has.

    They sort after `train` and `val`: pages of trackers go by the alphabet, and open with what comes first.
    """
    return {f"whole_run/{key}": value for key, value in select_numbers(summary).items()}


def select_numbers(row: dict[str, Any]) -> dict[str, float]:
    """Return the numbers of a row, without its step."""
    pairs = ((key, value) for key, value in row.items() if key != "step")
    return {key: float(value) for key, value in pairs if isinstance(value, int | float) and not isinstance(value, bool)}
