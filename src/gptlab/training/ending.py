"""How a run ends before its end: the line that a person reads, and the status that its tracker is told."""

import errno
from typing import Literal, NamedTuple

from gptlab.errors import Ended, Refused
from gptlab.training.context import RunContext
from gptlab.training.run_callbacks.stop_on_signal import Stopped
from gptlab.training.task import Diverged


class Ending(NamedTuple):
    """How a run ended.

    error        what is raised, in place of what happened where that would be a traceback
    status       of its summary
    exit_status  of its tracker
    """

    error: BaseException
    status: Literal["diverged", "interrupted", "refused", "failed"]
    exit_status: int = 1


def explain_ending(error: BaseException, context: RunContext) -> Ending:
    """Return how a run ends by an error. What no line explains goes to log.txt: a cell of a study has no terminal."""
    folder = context.folder
    match error:
        case Diverged():
            return Ending(Ended(f"diverged at {error}"), "diverged")
        case Ended():
            return Ending(error, "interrupted", error.status)
        case KeyboardInterrupt() | Stopped():
            status = error.status if isinstance(error, Stopped) else 130
            return Ending(Ended(f"stopped; {context.resume_command()}", status), "interrupted", status)
        case Refused() if folder.has_checkpoint():  # late, after hours of training perhaps: kept, and said
            folder.log_error(error)
            return Ending(Refused(f"{error}; what was trained is kept in {folder.path}"), "refused")
        case Refused():
            return Ending(error, "refused")
        case OSError() if error.errno in (errno.ENOSPC, errno.EDQUOT):  # can be mended, and the run resumed
            return Ending(Ended(f"the disk is full; free some, then {context.resume_command()}"), "failed")
        case _:
            folder.log_error(error)
            return Ending(error, "failed")
