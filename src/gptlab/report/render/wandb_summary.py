"""A study's own run in W&B: what its runs say together, beside them in their group.

Its id is that of the study's place, so that a study summed up again goes on with the same run.
"""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gptlab.config.recipe import Tracking
from gptlab.errors import Refused
from gptlab.runs.tracker import Tracker, read_tags


def summary_id(outputs: Path, study: str) -> str:
    """The id of a study's own run."""
    return f"summary-{hashlib.sha256(f'{outputs.absolute()}/{study}'.encode()).hexdigest()[:16]}"


def summarize(
    mode: str,
    outputs: Path,
    tracking: Tracking,
    study: str,
    tables: dict[str, tuple[list[str], list[list[Any]]]],
    summary: dict[str, Any],
    files: dict[str, Path],
    failed: bool,
    complain: Callable[[str], None] = print,
) -> None:
    """Opens the run, writes it and closes it. tables: columns and rows by name; files: a file or folder by the name of
    its artifact; failed: some cell did not finish. A study outlives its summary: what fails here is told, once."""
    identity = {
        "id": summary_id(outputs, study),
        "name": study,
        "group": tracking.group or study,
        "job_type": "summary",
        "tags": [*tracking.tags, *read_tags()],
        "config": {"study": study},
    }
    for before in (outputs / "wandb").glob(f"*-{identity['id']}*"):  # offline, one that says less
        shutil.rmtree(before, ignore_errors=True)
    try:
        mirror = Tracker(mode, outputs, tracking, identity, resumed=True, warn=complain)
    except Refused as refused:
        complain(f"no summary of {study}: {refused}")
        return
    mirror.log_tables(tables)
    for kind, path in files.items():
        mirror.upload_artifact("study", kind, path)
    mirror.finish({**summary, "status": "failed" if failed else "finished"}, int(failed))
