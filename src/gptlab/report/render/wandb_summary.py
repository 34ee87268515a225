"""A study's own run in W&B: what its runs say together, beside them in their group.

Its id follows from the study's place, so that a study summed up again goes on with the same run.
"""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gptlab.config.recipe import Tracking
from gptlab.errors import Refused
from gptlab.runs.tracker import Tracker
from gptlab.runs.wandb_environment import read_tags


def make_summary_id(outputs: Path, study: str) -> str:
    """Return the id of a study's own run."""
    # a hash of the path, which has characters that an id of W&B may not have
    return f"summary-{hashlib.sha256(f'{outputs.absolute()}/{study}'.encode()).hexdigest()[:16]}"


def list_summaries(outputs: Path, study: str) -> list[Path]:
    """Return the folders of a study's own run, synced or not."""
    return [*(outputs / "wandb").glob(f"*-{make_summary_id(outputs, study)}*")]


def upload_summary(
    mode: str,
    outputs: Path,
    tracking: Tracking,
    study: str,
    *,
    tables: dict[str, tuple[list[str], list[list[Any]]]],
    summary: dict[str, Any],
    files: dict[str, Path],
    failed: bool,
    warn: Callable[[str], None],
) -> bool:
    """Open the study's run, write it and close it; return whether all of it was written.

    tables  columns and rows by name
    files   a file or folder by the name of its artifact
    failed  whether some cell did not finish

    A study outlives its summary: what fails here is passed to `warn`, once.
    """
    identity = {
        "id": make_summary_id(outputs, study),
        "name": study,
        "group": tracking.group or study,
        "job_type": "summary",
        "tags": [*tracking.tags, *read_tags()],
        "config": {"study": study},
    }
    # an offline summary from before says less; only the new one is to be synced
    for earlier in list_summaries(outputs, study):
        shutil.rmtree(earlier, ignore_errors=True)
    try:
        tracker = Tracker(mode, outputs, tracking, identity, resumed=True, warn=warn)
    except Refused as refused:
        warn(f"no summary of {study}: {refused}")
        return False
    tracker.log_tables(tables)
    for kind, path in files.items():
        tracker.upload_artifact("study", kind, path)
    tracker.finish({**summary, "status": "failed" if failed else "finished"}, int(failed))
    return not tracker.failed
