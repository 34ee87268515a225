"""What only a GPU can tell, in about ten minutes: tests, speed, attentions, waits, cells a GPU, stacked seeds.

    python benchmarks/gpu.py                          # writes gpu.json, and a table for docs/devices.md
    python benchmarks/gpu.py tests speed to=h100.json  # these sections alone

A section that fails is a line in the table, and the others go on. After `minutes=10` no further one is begun.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BATCHES = (8, 16, 32, 64)
ATTENTIONS = ("mha", "gqa", "swa", "mla", "linear", "differential")
CELLS_A_GPU = (1, 4, 8)
SEEDS = 8
Result = dict[str, Any]


def make_bench(*overrides: str) -> Any:
    """Return a training bench of a recipe on the text that is always there, its decoder compiled on a GPU."""
    from gptlab import compose as wiring
    from gptlab.corpus.load import read_corpus
    from gptlab.study.tools.timing import TrainingBench

    recipe = wiring.compose(["tracking=disabled", *overrides])
    bench = TrainingBench(recipe, read_corpus(recipe))
    if bench.device.type == "cuda":
        bench.decoder.compile()
    return bench


def time_steps(bench: Any, steps: int = 20) -> float:
    """Return the median milliseconds of a step, after three that compile and warm up."""
    from gptlab.study.tools.timing import measure_ms

    for _ in range(3):
        bench.step()
    return statistics.median(measure_ms(bench.step, 1) for _ in range(steps))


def describe_speed(bench: Any, milliseconds: float) -> Result:
    """Return tokens a second, and the share of the card's peak where that is known."""
    from gptlab.model.costs import count_costs
    from gptlab.training.cost.peak_flops import find_peak_flops

    tokens_per_s = bench.batch.targets.numel() / milliseconds * 1000
    peak = find_peak_flops(name_device(), "bf16-mixed") if bench.device.type == "cuda" else None
    used = tokens_per_s * count_costs(bench.decoder).flops_per_token / peak if peak else None
    return {"ms": milliseconds, "tokens_per_s": tokens_per_s, "mfu": used}


def name_device() -> str:
    """Return the card's name, or cpu."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def run_tests() -> Result:
    """Run the tests marked gpu."""
    words = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests/training/test_gpu.py"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    return {"status": done.returncode, "said": (done.stdout.strip().splitlines() or [""])[-1]}


def measure_speed() -> Result:
    """Time GPT-2 124M in bfloat16 at several batch sizes."""
    speeds = {}
    for rows in BATCHES:
        bench = make_bench("experiment=gpt2", "model=gpt2", f"batch_size={rows}")
        speeds[f"batch {rows}"] = describe_speed(bench, time_steps(bench))
    return speeds


def measure_attentions(*sizes: str) -> Result:
    """Time each attention at the same sizes."""
    speeds = {}
    for attention in ATTENTIONS:
        bench = make_bench(*(sizes or ("model=gpt2", "batch_size=16")), f"attention={attention}")
        speeds[attention] = describe_speed(bench, time_steps(bench))
    return speeds


def check_synchronization(*sizes: str) -> Result:
    """Take steps in which every wait for the GPU is an error."""
    import torch

    bench = make_bench(*(sizes or ("experiment=gpt2", "model=gpt2", "batch_size=8")))
    for _ in range(3):
        bench.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(20):
            bench.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return {"steps without a wait": 20}


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
                for jobs in CELLS_A_GPU:
                    label = f"{jobs} at once{' with MPS' if mps else ''}"
                    seconds[label] = time_study(jobs, Path(folder) / f"outputs-{jobs}", environment)
            finally:
                if mps:
                    subprocess.run(["nvidia-cuda-mps-control"], env=environment, input="quit\n", text=True)
    return seconds


def time_study(jobs: int, outputs: Path, environment: dict[str, str]) -> float:
    """Return the seconds of a study of two arms and four seeds, planning and verdicts included."""
    words = [sys.executable, "ablate.py", "attention=mha,gqa", "seeds=4", "trainer=gpu", "compile=off", f"jobs={jobs}"]
    more = ["tracking=disabled", "timing=0", f"outputs={outputs}"]
    start = time.monotonic()
    subprocess.run([*words, *more], cwd=ROOT, env=environment, capture_output=True)
    if len([*outputs.glob("runs/*/summary.json")]) < 8:
        raise RuntimeError(f"of 8 cells {len([*outputs.glob('runs/*/summary.json')])} finished")
    return time.monotonic() - start


def measure_stacked_seeds(*sizes: str) -> Result:
    """Time forward and backward of eight seeds stacked by vmap, and of the same one by one; dropout is 0."""
    import torch
    from torch.func import functional_call, stack_module_state

    from gptlab.study.tools.timing import measure_ms

    benches = [make_bench(*(sizes or ("model=nano",)), f"seed={seed}") for seed in range(SEEDS)]
    decoders = [bench.decoder for bench in benches]
    parameters, buffers = stack_module_state(decoders)
    batches = [torch.stack([bench.batch[part] for bench in benches]) for part in (0, 1)]  # inputs, targets

    def loss_of_one(weights: Any, others: Any, inputs: Any, targets: Any) -> Any:
        return functional_call(decoders[0], (weights, others), (inputs, targets)).loss

    def step_stacked() -> None:
        loss = torch.vmap(loss_of_one, randomness="different")(parameters, buffers, *batches).sum()
        torch.autograd.grad(loss, [*parameters.values()])

    def step_alone() -> None:
        for bench in benches:
            output = bench.decoder.forward(bench.batch.inputs, bench.batch.targets)
            torch.autograd.grad(output.loss, [*bench.decoder.parameters()])

    times: Result = {}
    for name, act in {"one by one": step_alone, "stacked": step_stacked}.items():
        act()
        times[f"{name}, ms"] = statistics.median(measure_ms(act, 1) for _ in range(10))
    return times


SECTIONS: dict[str, Callable[[], Result]] = {
    "tests": run_tests,
    "speed": measure_speed,
    "attentions": measure_attentions,
    "syncs": check_synchronization,
    "cells": measure_cells,
    "seeds": measure_stacked_seeds,
}


def run_section(section: Callable[[], Result]) -> Result:
    """Run a section; an error is its result."""
    try:
        return section()
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"}


def format_table(document: dict[str, Any]) -> str:
    """Return the Markdown table for docs/devices.md."""
    lines = [f"| {document['device']}, torch {document['torch']} | | |", "| :-- | :-- | :-- |"]
    for section, result in document["sections"].items():
        for name, value in result.items():
            lines.append(f"| {section} | {name} | {format_value(value)} |")
    return "\n".join(lines)


def format_value(value: Any) -> str:
    """Return a cell of the table."""
    if isinstance(value, dict):
        used = f", {value['mfu']:.1%} MFU" if value.get("mfu") else ""
        return f"{value['ms']:.1f} ms, {value['tokens_per_s']:,.0f} tokens/s{used}"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def main(words: list[str]) -> None:
    """Run the sections, and write what they say after each."""
    import torch

    if not torch.cuda.is_available():
        sys.exit("error: torch sees no GPU here, and nothing was measured; run benchmarks/gpu.py where there is one")
    options = dict(word.split("=", 1) for word in words if "=" in word)
    chosen = [word for word in words if "=" not in word] or [*SECTIONS]
    document: dict[str, Any] = {"device": name_device(), "torch": torch.__version__, "sections": {}}
    start, path = time.monotonic(), Path(options.get("to", "gpu.json"))
    for name in chosen:
        if time.monotonic() - start > 60 * float(options.get("minutes", 10)):
            document["sections"][name] = {"skipped": "the time was up"}
            continue
        document["sections"][name] = run_section(SECTIONS[name])
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(format_table(document))


if __name__ == "__main__":
    main(sys.argv[1:])
