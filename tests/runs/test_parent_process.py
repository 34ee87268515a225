"""A process that follows another ends with it, however that one ended."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gptlab.runs.parent_process import ASKER, PARENT, WATCH_S

FOLLOWER = "import time; from gptlab.runs.parent_process import end_with_parent as end; end(); time.sleep(60)"
ASKED = FOLLOWER.replace("end_with_parent", "stop_with_asker")
STARTER = f"""
import os, subprocess, sys, time
environment = {{**os.environ, "{PARENT}": str(os.getpid()), "{ASKER}": str(os.getpid())}}
follower = subprocess.Popen([sys.executable, "-c", sys.argv[1]], env=environment, stdout=subprocess.DEVNULL)
print(follower.pid, flush=True)
time.sleep(60)
"""


def is_running(number: int) -> bool:
    """Return whether a process is there and is no zombie, whom nobody may have waited for yet."""
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.thorough
@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for the process in /proc")
@pytest.mark.parametrize("program", [FOLLOWER, ASKED], ids=["run", "study"])
def test_a_follower_ends_soon_after_the_first_process_was_killed(program: str):
    first = subprocess.Popen([sys.executable, "-c", STARTER, program], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    follower = int(first.stdout.readline())
    try:
        time.sleep(1.2 * WATCH_S)
        assert is_running(follower)
        first.send_signal(signal.SIGKILL)
        first.wait(timeout=10)
        deadline = time.monotonic() + 30
        while is_running(follower):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        first.kill()
        first.wait(timeout=10)
        first.stdout.close()
        if is_running(follower):
            os.kill(follower, signal.SIGKILL)


def test_a_study_whose_asker_has_gone_is_asked_to_stop_and_one_typed_by_hand_is_not():
    environment = {**os.environ, ASKER: str(os.getppid())}
    done = subprocess.run([sys.executable, "-c", ASKED], env=environment, timeout=50)
    assert done.returncode == -signal.SIGTERM
    by_hand = ASKED.replace("sleep(60)", f"sleep({1.2 * WATCH_S})")
    assert subprocess.run([sys.executable, "-c", by_hand], timeout=50).returncode == 0


def test_a_follower_whose_first_process_has_gone_before_it_looked_ends_at_once():
    # the number of a process that is not its parent
    environment = {**os.environ, PARENT: str(os.getppid())}
    done = subprocess.run([sys.executable, "-c", FOLLOWER], env=environment, timeout=50)
    assert done.returncode == -signal.SIGKILL
