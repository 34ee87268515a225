"""Every benchmark runs: on a small model, for one round. What it measures then says nothing, and is not looked at."""

import subprocess
import sys

import pytest
from tiny_runs import ROOT

SMALL = {
    "busy": ["model=nano", "--rounds", "1", "--seconds", "0.1"],
    "decode": ["--model", "nano", "--tokens", "8", "--rounds", "1"],
    "experts": ["--width", "32", "--tokens", "64"],
    "fake_quantise": ["--rounds", "1"],
    "mixers": ["mha", "gla", "--rounds", "1"],
    "overhead": ["model=nano", "--rounds", "3"],
    "report": ["--arms", "2", "--seeds", "2", "--rows", "50"],
    "step": ["--rounds", "1"],
}
"""Arguments with which each is done in seconds."""
ELSEWHERE = {"golden_losses", "gpu"}
"""One takes half an hour whatever it is told, one has tests of its own (training/test_gpu_benchmark.py)."""


def test_each_benchmark_is_run_by_a_test():
    assert {file.stem for file in (ROOT / "benchmarks").glob("*.py")} == {*SMALL} | ELSEWHERE


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_benchmark_runs_to_its_table(name: str):
    command = [sys.executable, f"benchmarks/{name}.py", *SMALL[name]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SMALL, "golden_losses"])
def test_a_benchmark_tells_its_options(name: str):
    done = subprocess.run(
        [sys.executable, f"benchmarks/{name}.py", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage:")
