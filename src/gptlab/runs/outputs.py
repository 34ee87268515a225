"""The folder that holds all runs and studies: whether it can be written, and what lies in it."""

import os
import shutil
from pathlib import Path

from gptlab.runs.record import RunFolder

OF_RUNS = ("runs",)
OF_STUDIES = ("runs", "locks", "ablations")
"""Folders inside, where a run or a study writes."""


def find_existing_parent(outputs: Path) -> Path:
    """Return the folder in which `outputs` is or would be made; a link that leads nowhere is in the way of one."""
    # outputs is made by the run: what counts is the disk it will lie on
    return next(
        path for path in (outputs.absolute(), *outputs.absolute().parents) if path.exists() or path.is_symlink()
    )


def count_free_bytes(outputs: Path) -> int:
    """Return the bytes that can still be written there."""
    return shutil.disk_usage(find_existing_parent(outputs)).free


def check_writable(outputs: Path, inside: tuple[str, ...] = ()) -> list[str]:
    """Return why a folder cannot be written and read, if so; nothing is made to find out.

    inside  the folders in it that must be so too, where they are there already
    """
    try:
        parents = [find_existing_parent(folder) for folder in (outputs, *(outputs / name for name in inside))]
    except (OSError, ValueError) as error:  # a name too long; a NUL in it
        reason = getattr(error, "strerror", None) or error
        return [f"outputs={str(outputs)[:80]} cannot be written: {reason}; set outputs=<folder>"]
    for parent in parents:
        # read too: what cannot be listed would seem to hold no runs
        if not parent.is_dir() or not os.access(parent, os.R_OK | os.W_OK | os.X_OK):
            return [f"outputs={outputs} cannot be written: {parent} is read-only or no folder; set outputs=<folder>"]
    return []


def list_run_folders(outputs: Path) -> list[Path]:
    """Return the run folders of an outputs folder; raise OSError where it may not be read, which glob calls empty."""
    pool = outputs / "runs"
    return [folder for folder in pool.iterdir() if (folder / "run.json").exists()] if pool.exists() else []


def find_unfinished_run(outputs: Path, run_hash: str) -> Path | None:
    """Return the newest unfinished run of a config, by its hash."""
    folders = [
        folder
        for folder in list_run_folders(outputs)
        if not (folder / "summary.json").exists() and RunFolder(folder).read_facts().get("hash") == run_hash
    ]
    return max(folders, key=lambda folder: (folder / "run.json").stat().st_mtime, default=None)
