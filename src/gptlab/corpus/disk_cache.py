"""Cached folders, each filled once by whichever process comes first; the others wait and use it.

The process that fills a folder holds a lock on <name>.part, which the system frees if it is killed, and renames it when
all of it is on disk. So a folder that has its name is complete; a .part that nobody locks is a leftover, and is
removed.
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


def cached_folder(folder: Path, fill: Callable[[Path], None]) -> Path:
    """Return `folder`; if it does not exist, call `fill` with an empty folder, which is then renamed to it."""
    while not folder.exists():
        part = folder.with_name(f"{folder.name}.part")
        part.mkdir(parents=True, exist_ok=True)
        with suppress(FolderMoved), _open_descriptor(part) as file:
            _wait_for_lock(file, part)
            # another process may have filled and renamed it while this one waited for the lock
            if not folder.exists():
                _fill_and_sync(part, fill)
                part.rename(folder)
        _remove_leftovers(folder.parent)
    return folder


class FolderMoved(Exception):
    """Raised where another process renamed or removed the folder that this one opened."""


def _wait_for_lock(file: int, part: Path) -> None:
    """Wait for the lock on `part`; raise FolderMoved if its name no longer leads to the open folder."""
    with delayed_progress("waiting for another process that makes the same tokens") as progress:
        while not try_lock(file, part):
            time.sleep(0.1)
            progress.advance()
    try:
        # The lock may be on a folder that its maker renamed or removed while this process waited.
        is_same = os.path.samestat(os.fstat(file), part.stat())
    except FileNotFoundError:
        is_same = False
    if not is_same:
        raise FolderMoved


def _fill_and_sync(part: Path, fill: Callable[[Path], None]) -> None:
    """Empty `part`, fill it and write it through to the disk; remove it on any error. A full disk is refused."""
    try:
        for leftover in part.iterdir():
            leftover.unlink()
        fill(part)
        # files before the folder, and both before the rename: a name that leads to half a cache would be believed
        for path in (*part.iterdir(), part):
            with _open_descriptor(path) as file:
                os.fsync(file)
    except BaseException as error:
        shutil.rmtree(part, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Refused(
                f"the disk is full: {part.parent} has no room for the tokens; set outputs=<folder>"
            ) from error
        raise


def _remove_leftovers(folder: Path) -> None:
    """Remove the .part folders that killed processes left."""
    for part in folder.glob("*.part"):
        with suppress(FolderMoved), _open_descriptor(part) as file:
            if try_lock(file, part):
                shutil.rmtree(part, ignore_errors=True)


@contextmanager
def _open_descriptor(path: Path) -> Iterator[int]:
    """Open a file or folder as a descriptor, to lock or sync it; raise FolderMoved if it does not exist."""
    try:
        # a folder can be opened for reading only, and a lock needs no more
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        raise FolderMoved from None
    try:
        yield file
    finally:
        os.close(file)
