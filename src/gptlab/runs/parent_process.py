"""Processes that end with the one that started them, should it be killed.

Those of a run would wait for it for ever, and a study would go on though nobody hears what it says.
"""

import os
import signal
import threading
import time

PARENT = "GPTLAB_FIRST_PROCESS"
"""Environment variable of the processes that a run's first one starts: its number."""
ASKER = "GPTLAB_ASKER"
"""Environment variable of a study that a program of ours asks (`gptlab.Study`): the number of that process."""
WATCH_S = 1.0
"""Seconds between two looks at whether that process is still there."""


def end_with_parent() -> None:
    """Kill this process soon after the one that started it has gone.

    It would be asleep in a collective, which no signal that Python handles can end. What it trains is also in the other
    one's checkpoints, so nothing is lost.
    """
    # given by the first process, which may have gone while this one was at its imports; a launcher gives none
    _watch_parent(int(os.environ.get(PARENT, os.getppid())), signal.SIGKILL)


def stop_with_asker() -> None:
    """Stop this study, as SIGTERM would, soon after the program that asked it has gone; by hand nobody has."""
    # not for what the study starts in turn
    asker = os.environ.pop(ASKER, None)
    if asker is not None:
        _watch_parent(int(asker), signal.SIGTERM)


def _watch_parent(parent: int, number: signal.Signals) -> None:
    def watch() -> None:
        # an orphan has another parent
        while os.getppid() == parent:
            time.sleep(WATCH_S)
        os.kill(os.getpid(), number)

    threading.Thread(target=watch, name="watch-parent", daemon=True).start()
