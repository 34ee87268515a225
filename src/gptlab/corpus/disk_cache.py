"""Folders that are made once, whole or not at all, by whichever process comes first; the others wait and use them.

The process that makes a folder holds a lock on <name>.part, which the system frees if it is killed, and renames it when
all in it is on disk. So what has its name is whole; a .part that nobody holds is left over, and is taken away.
"""

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gptlab.console.progress import delayed_progress
from gptlab.errors import Refused
from gptlab.runs.file_lock import try_lock


def shelved(folder: Path, fill: Callable[[Path], None]) -> Path:
    """The folder; if it is not there, `fill` is called with an empty one that then becomes it."""
    while not folder.exists():
        part = folder.with_name(f"{folder.name}.part")
        part.mkdir(parents=True, exist_ok=True)
        with suppress(Moved), _opened(part) as file:
            _wait_for(file, part)
            if not folder.exists():
                _filled(part, fill)
                part.rename(folder)
        _sweep(folder.parent)
    return folder


class Moved(Exception):
    """Another process renamed or removed the folder that this one opened."""


def _wait_for(file: int, part: Path) -> None:
    with delayed_progress("waiting for another process that makes the same tokens") as shown:
        while not try_lock(file, part):
            time.sleep(0.1)
            shown.advance()
    try:
        same = os.path.samestat(os.fstat(file), part.stat())
    except FileNotFoundError:
        same = False
    if not same:
        raise Moved


def _filled(part: Path, fill: Callable[[Path], None]) -> None:
    try:
        for left in part.iterdir():
            left.unlink()
        fill(part)
        for path in (*part.iterdir(), part):
            with _opened(path) as file:
                os.fsync(file)
    except BaseException as error:
        shutil.rmtree(part, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Refused(
                f"the disk is full: {part.parent} has no room for the tokens; set outputs=<folder>"
            ) from error
        raise


def _sweep(folder: Path) -> None:
    """Removes what killed processes left."""
    for part in folder.glob("*.part"):
        with suppress(Moved), _opened(part) as file:
            if try_lock(file, part):
                shutil.rmtree(part, ignore_errors=True)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        raise Moved from None
    try:
        yield file
    finally:
        os.close(file)
