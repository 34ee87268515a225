"""Programs in processes of their own, forked from one that has imported everything: 0.1 s to the first line, not 4.

They have their own arguments, folder, environment, output, signals and exit, as `python train.py` has. They lack what
Python reads before it imports anything (-u, PYTHONPATH, ...), and show no import that is missing or too early.

    python -W error tests/helpers/forked_process.py SOCKET      the process that is forked
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]


class Server(NamedTuple):
    """The process that is forked, and the socket on which it is told to."""

    process: "subprocess.Popen[bytes]"
    socket: socket.socket


@cache
def start_server() -> Server:
    """Start the process that is forked."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-W", "error", __file__, str(theirs.fileno())]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        pass_fds=[theirs.fileno()],
    )
    theirs.close()
    return Server(process, ours)


def stop_server() -> None:
    """End the process that is forked, if there is one."""
    if start_server.cache_info().currsize:
        server = start_server()
        server.socket.close()
        server.process.wait(timeout=60)
        start_server.cache_clear()


def run_forked(*argv: str, timeout: float = 120, **how: Any) -> "subprocess.CompletedProcess[str]":
    """Run `python ARGV` in a fork to its end, as subprocess.run does."""
    process = Forked(*argv, **how)
    out, err = process.communicate(timeout)
    return subprocess.CompletedProcess(argv, process.wait(timeout), out, err)


class Forked:
    """A program in a process of its own, with what these tests need of subprocess.Popen."""

    def __init__(
        self,
        *argv: str,
        cwd: Path = ROOT,
        env: dict[str, str] | None = None,
        warnings: tuple[str, ...] = (),
        new_session: bool = False,
    ) -> None:
        """Start `python ARGV`, where ARGV begins with a file, -m or -c.

        env       the environment; this one's unless given
        warnings  what `-W` is given: "error", "ignore::ResourceWarning"; the last counts most
        """
        env = {**os.environ, "OMP_NUM_THREADS": "1"} if env is None else env
        self.args, self.returncode = argv, None
        self.encoding = env.get("PYTHONIOENCODING", "utf-8")
        self.out, self.err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        status, theirs = os.pipe()
        self.status = os.fdopen(status, "rb", buffering=0)
        case = {"argv": argv, "cwd": str(cwd), "env": env, "warnings": warnings, "new_session": new_session}
        files = [self.out.fileno(), self.err.fileno(), theirs]
        server = start_server().socket
        message = json.dumps(case).encode() + b"\n"
        sent = socket.send_fds(server, [message], files)
        server.sendall(message[sent:])
        os.close(theirs)
        self.pid = int(self.status.readline())

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        return self._read_status(0)

    def wait(self, timeout: float) -> int:
        """Wait for the end, and return the exit status."""
        if (status := self._read_status(timeout)) is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return status

    def communicate(self, timeout: float = 60) -> tuple[str, str]:
        """Wait for the end, and return what was written to stdout and stderr."""
        self.wait(timeout)
        texts = []
        for file in (self.out, self.err):
            file.seek(0)
            texts.append(file.read().decode(self.encoding))
            file.close()
        return texts[0], texts[1]

    def _read_status(self, timeout: float) -> int | None:
        if self.returncode is None and select.select([self.status], [], [], timeout)[0]:
            self.returncode = os.waitstatus_to_exitcode(int(self.status.readline()))
            self.status.close()
        return self.returncode


# -- in the process that is forked


def serve(requests: socket.socket) -> dict[str, Any]:
    """Fork for each request; return it in the fork, with its files in place."""
    while message := socket.recv_fds(requests, 1 << 16, 3):
        text, files, _, _ = message
        if not text:
            os._exit(0)
        while not text.endswith(b"\n"):
            text += requests.recv(1 << 16)
        if os.fork():
            for file in files:
                os.close(file)
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
            continue
        out, err, status = files
        if pid := os.fork():  # this process waits, so that the server need not
            os.write(status, f"{pid}\n".encode())
            os.write(status, f"{os.waitpid(pid, 0)[1]}\n".encode())
            os._exit(0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        for file in (*files, requests.detach()):
            os.close(file)
        return json.loads(text)
    raise AssertionError


def run_program(case: dict[str, Any]) -> None:
    """Be `python ARGV` from here on."""
    import builtins
    import random
    import runpy
    import warnings

    random.seed()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's & ignores it
    if case["new_session"]:
        os.setsid()
    os.chdir(case["cwd"])
    os.environ.clear()
    os.environ.update(case["env"])
    if encoding := os.environ.get("PYTHONIOENCODING"):
        sys.stdout.reconfigure(encoding=encoding)  # type: ignore[union-attr]
        sys.stderr.reconfigure(encoding=encoding)  # type: ignore[union-attr]
    sys.warnoptions[:] = case["warnings"]
    # What libraries have ignored at their import goes on counting more than -W error, which was there before them.
    if "error" not in case["warnings"]:
        warnings.filters.remove(("error", None, Warning, None, 0))  # type: ignore[attr-defined]
        warnings.simplefilter("default", append=True)
    for action, _, category in (option.partition("::") for option in case["warnings"]):
        if category:
            warnings.filterwarnings(action, category=getattr(builtins, category))
    first, *rest = case["argv"]
    if first == "-c":
        sys.argv, sys.path[0] = ["-c", *rest[1:]], case["cwd"]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    elif first == "-m":
        sys.argv, sys.path[0] = rest, case["cwd"]
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = [first, *rest], str(Path(first).resolve().parent)
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    import gc
    from types import SimpleNamespace

    from kept_compositions import keep_compositions

    import gptlab.ablation.preload  # noqa: F401
    from gptlab.ablation import jobs
    from gptlab.compose import compose
    from gptlab.runs.fingerprint import fingerprint_recipe

    jobs.count_cores = lambda: 1  # jobs=auto would start a server of its own, which imports all of this again
    keep_compositions(SimpleNamespace(setattr=setattr))
    words = ["model=nano", "data=text", "tracking=disabled", f"data.path={ROOT}/LICENSE"]  # what most forks begin with
    fingerprint_recipe(compose(words))  # parses eighty sources
    compose(words, "ablate")
    gc.freeze()
    run_program(serve(socket.socket(fileno=int(sys.argv[1]))))
