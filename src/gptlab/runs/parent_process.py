"""Processes of a run that end with the one that started them, should it be killed: they would wait for it for ever."""

import os
import signal
import threading
import time

PARENT = "GPTLAB_FIRST_PROCESS"
"""Environment variable of the processes that a run's first one starts: its number."""
WATCH_S = 1.0
"""Seconds between two looks at whether that process is still there."""


def end_with_parent() -> None:
    """Kill this process soon after the one that started it has gone.

    It would be asleep in a collective, which no signal that Python handles can end. What it trains is also in the other
    one's checkpoints, so nothing is lost.
    """
    # given by the first process, which may have gone while this one was at its imports; a launcher gives none
    parent = int(os.environ.get(PARENT, os.getppid()))

    def watch() -> None:
        # an orphan has another parent
        while os.getppid() == parent:
            time.sleep(WATCH_S)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="watch-parent", daemon=True).start()
