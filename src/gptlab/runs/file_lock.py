"""Locks on files, which the system frees when their process dies."""

import fcntl
from pathlib import Path
from typing import IO

from gptlab.errors import Refused


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
