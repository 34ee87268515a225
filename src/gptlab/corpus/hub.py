"""Revisions of data sets of the Hugging Face Hub: only a commit says for good what was read."""

import re

from gptlab.errors import Refused

COMMIT = re.compile("[0-9a-f]{40}")
CONVERTED = "refs/convert/parquet"
"""Branch of the Parquet files that the hub makes of data sets."""


def refuse_moving_revision(revision: str | None) -> None:
    """Refuse a branch or a tag, behind which another text may stand tomorrow."""
    if revision is not None and not COMMIT.fullmatch(revision):
        raise Refused(
            f"revision={revision} may be another text tomorrow; give a commit of 40 hexadecimal digits, or "
            "data.revision=null, whose refusal names today's"
        )


def refuse_local_revision(path: str, revision: str | None) -> None:
    """Refuse a revision beside files of this machine."""
    if revision is not None:
        raise Refused(
            f"data.revision={revision} is for data sets of the hub, and data.path={path} is local; "
            "say data.revision=null"
        )
