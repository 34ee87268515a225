"""Threads of a run: which OpenMP runtime has them, and how many there are beside other work."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_runs import ROOT, finished, numbers, program, summary, tiny

from gptlab.corpus.batch import Batch
from gptlab.runs import machine
from gptlab.runs.openmp import SWITCH
from gptlab.training.cost import probe
from gptlab.training.cost import threads as threads_module
from gptlab.training.cost.threads import choose_threads
from gptlab.training.trainer import lightning

HAS_INTEL = (Path(sys.prefix) / "lib" / "libiomp5.so").exists()


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch):
    """Eight cores, of which as many are busy as the test says, under torch's own runtime."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads_module, "DEFAULT_THREADS", 8)
    monkeypatch.setattr(threads_module, "name_runtime", lambda: "torch")
    choose_threads.cache_clear()
    yield lambda busy: monkeypatch.setattr(threads_module, "measure_busy_cores", lambda: busy)
    choose_threads.cache_clear()


@pytest.mark.parametrize(("busy", "threads"), [(0.3, 8), (0.9, 7), (5.2, 3), (11.0, 1)])
def test_cores_that_are_busy_are_left_to_others(look, busy: float, threads: int):
    look(busy)
    assert choose_threads() == threads
    look(0.0)
    assert choose_threads() == threads  # chosen once


def test_a_number_that_was_given_stays(look, monkeypatch: pytest.MonkeyPatch):
    look(5.0)
    assert lightning.Lightning(accelerator="cpu", threads=6).threads == 6
    assert lightning.Lightning(accelerator="cpu").threads == 3
    choose_threads.cache_clear()
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert choose_threads() == 8
    choose_threads.cache_clear()
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(threads_module, "name_runtime", lambda: "intel")
    assert choose_threads() == 8


def test_busy_cores_are_those_of_other_processes():
    busy = machine.measure_busy_cores(0.05)
    assert 0 <= busy <= (os.cpu_count() or 1)


@pytest.mark.parametrize(("variable", "known"), [("GPTLAB_OPENMP", "intel, torch"), ("GPTLAB_MALLOC", "keep, default")])
def test_a_word_of_the_environment_that_is_not_known_is_refused(
    variable: str, known: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(variable, "gnu")
    for name in ("train.py", "ablate.py", "-m gptlab"):
        done = program(name)
        assert (done.status, done.out) == (2, "")
        unset = known.partition(",")[0]
        assert done.err == f"error: {variable}=gnu: no such word; known: {known}; unset is {unset}\n"


def test_a_busy_machine_does_not_lengthen_what_a_step_would_take_alone(monkeypatch: pytest.MonkeyPatch):
    clock = SimpleNamespace(wall=0.0, cpu=0.0)

    def work(*_: object, **__: object) -> None:
        # of 100 ms on the clock two threads had 30 ms each
        clock.wall, clock.cpu = clock.wall + 0.1, clock.cpu + 0.06

    clocks = SimpleNamespace(perf_counter=lambda: clock.wall, process_time=lambda: clock.cpu)
    monkeypatch.setattr(probe, "time", clocks)
    monkeypatch.setattr(probe, "take_training_step", work)
    monkeypatch.setattr(probe, "make_resting_optimizer", work)
    monkeypatch.setattr(probe.torch, "get_num_threads", lambda: 2)
    setup: Any = SimpleNamespace(
        context=SimpleNamespace(settings=SimpleNamespace(accumulate=1)),
        task=SimpleNamespace(optimizer=None),
        decoder=SimpleNamespace(train=lambda: None, trainable_parameters=list),
        device=torch.device("cpu"),
        compiled=False,
        numerics=None,
    )
    rows = torch.zeros(4, 3, dtype=torch.long)
    step = probe.time_step(setup, Batch(rows, rows))
    assert step == pytest.approx((0.1, 0.03))


@pytest.mark.skipif(not HAS_INTEL, reason="needs intel-openmp: x86-64 Linux")
@pytest.mark.slow
def test_both_runtimes_compute_the_same_bits_on_two_threads(tmp_path: Path):
    found = {}
    for runtime in ("intel", "torch"):
        environment = {**os.environ, SWITCH: runtime}
        environment.pop("OMP_NUM_THREADS", None)
        command = [sys.executable, "train.py", *tiny(tmp_path / runtime, "trainer.threads=2", "steps=20")]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert not done.stderr
        folder = Path(done.stdout.splitlines()[-1])
        found[runtime] = numbers(folder)
        facts = json.loads((folder / "run.json").read_text())
        assert (facts["openmp"], facts["threads"]) == (runtime, 2)
    assert found["intel"] == found["torch"]


def test_a_resumed_run_has_the_threads_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = finished(*tiny(tmp_path, "steps=12"))
    facts = json.loads((folder / "run.json").read_text())
    assert facts["threads"] == torch.get_num_threads() == 1
    (folder / "run.json").write_text(json.dumps({**facts, "threads": 2}))
    (folder / "summary.json").unlink()
    try:
        resumed = finished(f"resume={folder}")
        assert summary(resumed)["device"] == "cpu, 2 threads"
    finally:
        torch.set_num_threads(1)
