"""Whole programs, each in a process of its own: the tests for GPUs, short runs as CUDA graphs, studies of cells."""

import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from gpu_sections.arms import ROOT, SECTION_S, Result, measure_arms

CELLS_A_GPU = (1, 4, 8)


def run_tests() -> Result:
    """Run the tests marked gpu."""
    words = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests/training/test_gpu.py"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=SECTION_S)
    return {"status": done.returncode, "said": (done.stdout.strip().splitlines() or [""])[-1]}


def measure_cuda_graphs() -> Result:
    """Time steps and written tokens of short runs without and with trainer.cuda_graph, compiled and not."""
    arms = {}
    for size, more in {"nano": (), "mini": (), "gpt2": ("vocab_multiple=50304", "batch_size=8", "steps=60")}.items():
        for compiled in ("off", "on"):
            for graph in ("false", "true"):
                words = (f"model={size}", "steps=200", *more, f"compile={compiled}", f"trainer.cuda_graph={graph}")
                arms[f"{size}, compile={compiled}, cuda_graph={graph}"] = partial(time_run, "trainer=gpu", *words)
    return measure_arms(arms)


def time_run(*overrides: str) -> Result:
    """Train a short run in a process of its own; return its median step, and seconds to write its samples."""
    usual = ("tracking=disabled", "evaluation.final=4096", "sample.count=4", "sample.length=100", "log_every=50")
    with tempfile.TemporaryDirectory() as outputs:
        words = [sys.executable, "train.py", *usual, *overrides, f"outputs={outputs}"]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=SECTION_S)
        if done.returncode:
            raise RuntimeError((done.stderr.strip().splitlines() or ["no word of error"])[-1])
        (file,) = Path(outputs).glob("runs/*/summary.json")
        summary = json.loads(file.read_text(encoding="utf-8"))
    return {
        "ms": summary["time/step_ms_median"],
        "tokens_per_s": summary["throughput/tokens_per_s"],
        "samples_s": summary.get("time/generate_cached_s"),
    }


def measure_cells() -> Result:
    """Time eight cells of nano with 1, 4 and 8 of them at once on a GPU, without MPS and, where it is, with it."""
    seconds = {}
    for mps in (False, True):
        if mps and subprocess.run(["which", "nvidia-cuda-mps-control"], capture_output=True).returncode:
            seconds["MPS"] = "nvidia-cuda-mps-control is not here"
            break
        with tempfile.TemporaryDirectory() as folder:
            environment = {**os.environ, "CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
            environment = environment if mps else {**os.environ}
            if mps:
                subprocess.run(["nvidia-cuda-mps-control", "-d"], env=environment, check=True)
            try:
                ways = {f"{jobs} at once{' with MPS' if mps else ''}": jobs for jobs in CELLS_A_GPU}
                study = {
                    label: partial(time_study, jobs, Path(folder) / f"outputs-{jobs}", environment)
                    for label, jobs in ways.items()
                }
                seconds |= measure_arms(study)
            finally:
                if mps:
                    subprocess.run(["nvidia-cuda-mps-control"], env=environment, input="quit\n", text=True)
    return seconds


def time_study(jobs: int, outputs: Path, environment: dict[str, str]) -> float:
    """Return the seconds of a study of two arms and four seeds, planning and verdicts included."""
    words = [sys.executable, "ablate.py", "attention=mha,gqa", "seeds=4", "trainer=gpu", "compile=off", f"jobs={jobs}"]
    more = ["tracking=disabled", "timing=0", f"outputs={outputs}"]
    start = time.monotonic()
    subprocess.run([*words, *more], cwd=ROOT, env=environment, capture_output=True, timeout=SECTION_S)
    if len([*outputs.glob("runs/*/summary.json")]) < 8:
        raise RuntimeError(f"of 8 cells {len([*outputs.glob('runs/*/summary.json')])} finished")
    return time.monotonic() - start
