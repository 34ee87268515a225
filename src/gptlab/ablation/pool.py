"""Worker processes for the cells of a study on this machine: forked from one server that has made the imports, reused.

A worker takes one cell after another, and keeps the corpora that it has read. One that dies is one failed cell, and
another takes its place. Signals reach this process alone: it asks the workers to stop, which save after their step and
end; a second signal kills them. If this process dies, they notice, and stop too.
"""

import gc
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, forkserver, get_context, parent_process
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Literal

from gptlab.ablation.gpu_share import claim_gpu, list_gpus
from gptlab.ablation.jobs import choose_jobs
from gptlab.ablation.worker import record_failure, run_cell
from gptlab.config.recipe import Recipe
from gptlab.runs.machine import count_cores
from gptlab.runs.study_folder import TERMINAL_STATES, CellState, StudyFolder, was_trained

CONTEXT = get_context("forkserver")
IMPORTS = ["gptlab.ablation.preload"]
"""What the server imports once for all workers."""
Pipe = connection.Connection
STOP_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Signals that end the study as Ctrl-C does."""


def start_server() -> None:
    """Start the process that workers are forked from; its imports go on while this process plans."""
    CONTEXT.set_forkserver_preload(IMPORTS)
    forkserver.ensure_running()


def start_server_early(jobs: int | Literal["auto"], recipe: Recipe) -> None:
    """Start the server if a study surely has cells to run; its imports then go on while the arms are checked.

    recipe  the base of the study under its first seed: if it has not been trained, there is a cell to run
    """
    if choose_jobs(jobs, [recipe]) > 1 and not was_trained(recipe):
        start_server()


@dataclass
class Worker:
    """A worker process, the pipe to it, and the key of the cell that it runs."""

    process: ForkServerProcess
    pipe: Pipe
    key: str = ""

    def give(self, path: str) -> None:
        """Send the worker a cell."""
        self.key = Path(path).stem
        with suppress(OSError):  # it has died, which waiting for it shows
            self.pipe.send(path)


class CellPool:
    """Runs cells in at most `jobs` processes at once."""

    def __init__(self, jobs: int, study_folder: StudyFolder, say: Callable[[str], None]) -> None:
        self.jobs, self.study_folder, self.say = jobs, study_folder, say
        self.workers: list[Worker] = []

    def run(self, paths: Sequence[str]) -> None:
        """Run the cells of these files, in order; return when all have ended, in whatever way."""
        waiting = deque(paths)
        try:
            with raise_on_signals():
                for _ in range(min(self.jobs, len(waiting))):
                    self._start_worker().give(waiting.popleft())
                while self.workers:
                    for worker in self._wait():
                        self._continue(worker, waiting)
        except BaseException:
            self.say("stopping: each cell saves after its step; a second signal ends all at once")
            self._stop()
            raise

    def _start_worker(self) -> Worker:
        # a pipe a worker: its end tells whose process died, which concurrent.futures does not (docs/log.md)
        ours, theirs = CONTEXT.Pipe()
        occupied = {int(worker.process.name) for worker in self.workers}
        # the lowest free place: a worker that takes over from a dead one takes its GPU too
        place = next(number for number in range(self.jobs) if number not in occupied)
        locks = self.study_folder.outputs / "locks"
        process = CONTEXT.Process(
            target=work, args=(theirs, dict(os.environ), self.jobs, place, locks), name=str(place), daemon=False
        )
        process.start()
        # the worker has its own copy; were this one open, its death would not end the pipe
        theirs.close()
        self.workers.append(Worker(process, ours))
        return self.workers[-1]

    def _wait(self) -> list[Worker]:
        """Return the workers that have ended a cell, or themselves."""
        # a pipe is ready when its worker has answered, and when it has died
        pipes = connection.wait([worker.pipe for worker in self.workers])
        return [worker for worker in self.workers if worker.pipe in pipes]

    def _continue(self, worker: Worker, waiting: deque[str]) -> None:
        """Send a worker its next cell; replace a dead worker; dismiss one for whom no cell is left."""
        try:
            worker.pipe.recv()
        except (EOFError, OSError):
            self._dismiss(worker)
            self._record_death(worker)
            if waiting:
                self._start_worker().give(waiting.popleft())
            return
        if waiting:
            worker.give(waiting.popleft())
        else:
            self._dismiss(worker)

    def _dismiss(self, worker: Worker) -> None:
        """Close the pipe to a worker, which ends it, and wait."""
        worker.pipe.close()
        worker.process.join()
        self.workers.remove(worker)

    def _record_death(self, worker: Worker) -> None:
        """Record a cell whose process died as failed, unless it had ended before."""
        state = self.study_folder.read_states().get(worker.key, CellState())
        if state.status in TERMINAL_STATES:
            return
        # the run's own log, if it got so far
        log = self.study_folder.pool / state.run / "log.txt"
        if not state.run or not log.exists():
            log = self.study_folder.path / "logs" / f"{worker.key}.txt"
            log.write_text(f"{describe_exit(worker.process.exitcode)}\n", encoding="utf-8")
        reason = describe_exit(worker.process.exitcode)
        self.study_folder.record_event(worker.key, "failed", run=state.run, reason=reason, log=str(log))

    def _stop(self) -> None:
        """Ask all workers to stop and wait for them; kill them on a second signal."""
        try:
            with raise_on_signals():
                self._signal_workers(signal.SIGTERM)
                for worker in self.workers:
                    # a signal behind a run's last step ends nothing: its worker would wait for another cell for ever
                    worker.pipe.close()
                for worker in self.workers:
                    worker.process.join()
        except BaseException:
            self._signal_workers(signal.SIGKILL)
            raise
        finally:
            for worker in [*self.workers]:
                self._dismiss(worker)

    def _signal_workers(self, number: signal.Signals) -> None:
        for worker in self.workers:
            with suppress(OSError):
                os.kill(worker.process.pid or 0, number)


@contextmanager
def raise_on_signals() -> Iterator[None]:
    """Turn the signals that end a study into SystemExit, in the main thread; elsewhere they stay as they are."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.signal(number, raise_exit) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def raise_exit(number: int, _: Any) -> None:
    """Handle a signal by raising SystemExit with a shell's status."""
    raise SystemExit(128 + number)


def describe_exit(status: int | None) -> str:
    """Return in words how a worker ended, from multiprocessing's exit code."""
    if status == -signal.SIGKILL:
        return "its process was killed (SIGKILL), as the system does when memory runs out; try fewer jobs="
    if status is not None and status < 0:
        return f"its process was killed ({signal.Signals(-status).name})"
    if status is not None and status > 128:
        return f"its process was stopped ({signal.Signals(status - 128).name})"
    return f"its process ended with status {status}"


# -- in a worker


def work(pipe: Pipe, environment: dict[str, str], jobs: int, place: int, locks: Path) -> None:
    """Run the cells whose files come through the pipe, until it is closed.

    The worker leaves the terminal's process group, so that Ctrl-C reaches the study's process alone.
    """
    # a session of its own, to which the terminal sends no signals
    os.setsid()
    for number in STOP_SIGNALS:
        signal.signal(number, raise_exit)
    gc.freeze()  # else every run looks for garbage in all that was imported, 0.2 s each time
    # the server was forked before this study's variables were set
    os.environ.clear()
    os.environ.update(environment)
    limit_worker(jobs, place, locks)
    threading.Thread(target=stop_with_parent, daemon=True).start()
    try:
        with suppress(EOFError, BrokenPipeError):
            while True:
                run_one(Path(pipe.recv()))
                pipe.send(None)
    finally:
        if "wandb" in sys.modules:
            sys.modules["wandb"].teardown()  # multiprocessing runs no exit handlers


def run_one(path: Path) -> None:
    """Run a cell. What it does not record itself, such as a file that cannot be read, is recorded here."""
    try:
        run_cell(path)
    except Exception as error:
        record_failure(StudyFolder(path.parents[1]), path.stem, [], error)


def limit_worker(jobs: int, place: int, locks: Path) -> None:
    """Limit this process to its part of the machine: threads by count, one GPU."""
    import torch

    # the server has imported torch, so OMP_NUM_THREADS comes too late
    torch.set_num_threads(max(1, count_cores() // jobs))
    gpus = list_gpus()
    if len(gpus) > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = claim_gpu(gpus, locks, place)


def stop_with_parent() -> None:
    """Wait until the study's process is gone, then stop as if it had asked for it."""
    parent = parent_process()
    if parent is not None:
        # a killed study cannot tell its workers anything; its end is what they see
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
