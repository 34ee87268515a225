"""Locks on files, which the system frees when their process dies."""

import fcntl
from pathlib import Path
from typing import IO

from gptlab.errors import Refused

LOCK_ATTEMPTS = 4
"""A process that only looks holds a lock for an instant, which must not be taken for an owner."""


def try_lock(file: IO[str] | int, path: Path, *, shared: bool = False) -> bool:
    """Lock an open file and return True, or return False if another process holds it.

    Raises Refused on a file system without locks, as Lustre without its option flock.
    """
    try:
        # flock, not lockf: closing any other handle of the file would drop lockf's lock
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise Refused(
            f"{path}: its file system locks no files ({error.strerror}); set outputs=<folder on another file system>"
        ) from error
    return True


def is_held(path: Path) -> bool:
    """Whether a living process holds a lock."""
    if not path.exists():
        return False
    with path.open() as file:
        # shared, so that two who only look do not see each other
        return not try_lock(file, path, shared=True)
