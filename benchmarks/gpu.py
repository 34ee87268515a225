"""What only a GPU can tell, in about ten minutes: tests, speed, waits, CUDA graphs, cells a GPU, seeds, attentions.

    python benchmarks/gpu.py                           # writes gpu.json, and a table for docs/devices.md
    python benchmarks/gpu.py tests speed to=h100.json  # these sections alone
    python benchmarks/gpu.py speed nanogpt=FOLDER      # beside nanoGPT's model.py and optimizer

GPT-2 124M here has 50,304 rows of embedding and head (vocab_multiple), whatever text is at hand. A section that fails,
or an arm of one, is a line in the table, and the others go on. After `minutes=10` nothing further is begun.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
GPT2 = ("experiment=gpt2", "model=gpt2", "vocab_multiple=50304")
BATCHES = (8, 16, 32, 64)
CELLS_A_GPU = (1, 4, 8)
SEEDS = 8
SECTION_S = 300
"""Seconds after which a section in a process of its own is given up."""
Result = dict[str, Any]
OPTIONS: dict[str, str] = {}
"""Words of the command line, as minutes=10."""
START = time.monotonic()


def is_time_up() -> bool:
    """Return whether nothing further is to be begun."""
    return time.monotonic() - START > 60 * float(OPTIONS.get("minutes", 10))


def measure_arms(arms: dict[str, Callable[[], Any]]) -> Result:
    """Return what each arm says of itself; of one that fails the error, and of one too late that it was."""
    return {name: "the time was up" if is_time_up() else run_section(arm) for name, arm in arms.items()}


def make_bench(*overrides: str) -> Any:
    """Return a training bench of a recipe on the text that is always there, its decoder compiled on a GPU."""
    from gptlab import compose as wiring
    from gptlab.corpus.load import read_corpus
    from gptlab.study.tools.timing import TrainingBench

    recipe = wiring.compose(["tracking=disabled", *overrides])
    bench = TrainingBench(recipe, read_corpus(recipe))
    if bench.device.type == "cuda":
        import torch

        # of the arms before: their memory, their compiled programs
        torch.cuda.empty_cache()
        torch.compiler.reset()
        torch.cuda.reset_peak_memory_stats()
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
    gigabytes = measure_peak_gigabytes() if bench.device.type == "cuda" else None
    return {"ms": milliseconds, "tokens_per_s": tokens_per_s, "mfu": used, "gigabytes": gigabytes}


def measure_peak_gigabytes() -> float:
    """Return the most that was held since the last bench was made."""
    import torch

    return torch.cuda.max_memory_allocated() / 1e9


def name_device() -> str:
    """Return the card's name, or cpu."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def run_tests() -> Result:
    """Run the tests marked gpu."""
    words = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests/training/test_gpu.py"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=SECTION_S)
    return {"status": done.returncode, "said": (done.stdout.strip().splitlines() or [""])[-1]}


def measure_recipe(*overrides: str, steps: int = 20) -> Result:
    """Time a step of a recipe."""
    bench = make_bench(*overrides)
    return describe_speed(bench, time_steps(bench, steps))


def measure_speed() -> Result:
    """Time GPT-2 124M in bfloat16 at several batch sizes, and nanoGPT's where nanogpt= names its folder."""
    arms: dict[str, Callable[[], Any]] = {}
    for rows in BATCHES:
        arms[f"batch {rows}"] = partial(measure_recipe, *GPT2, f"batch_size={rows}")
        if folder := OPTIONS.get("nanogpt"):
            arms[f"batch {rows}, nanoGPT"] = partial(measure_nanogpt, folder, rows)
    return measure_arms(arms)


def measure_nanogpt(folder: str, rows: int) -> Result:
    """Time nanoGPT's own model and optimizer, compiled, with the step of its train.py, in bfloat16."""
    import torch

    from gptlab.study.tools.timing import measure_ms

    sys.path.insert(0, folder)
    from model import GPT, GPTConfig  # type: ignore[import-not-found]

    torch.cuda.empty_cache()
    torch.compiler.reset()
    torch.cuda.reset_peak_memory_stats()
    model = GPT(GPTConfig(vocab_size=50304, block_size=1024, dropout=0.0, bias=False)).cuda()
    optimizer = model.configure_optimizers(0.1, 0.0, (0.9, 0.95), "cuda")
    tokens = torch.randint(50304, (rows, 1025), device="cuda")
    compiled: Any = torch.compile(model)

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            loss = compiled(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())[1]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for _ in range(3):
        step()
    ms = statistics.median(measure_ms(step, 1) for _ in range(20))
    return {"ms": ms, "tokens_per_s": rows * 1024 / ms * 1000, "gigabytes": measure_peak_gigabytes()}


def measure_attentions(*sizes: str) -> Result:
    """Time every attention of the menu at the same sizes."""
    from gptlab.config.menu import list_choices

    sizes = sizes or ("model=gpt2", "batch_size=16")
    return measure_arms(
        {name: partial(measure_recipe, *sizes, f"attention={name}") for name in list_choices("attention")}
    )


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


def check_synchronization(*sizes: str) -> Result:
    """Take steps in which every wait for the GPU is an error."""
    import torch

    bench = make_bench(*(sizes or (*GPT2, "batch_size=8")))
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
    "syncs": check_synchronization,
    "graph": measure_cuda_graphs,
    "cells": measure_cells,
    "seeds": measure_stacked_seeds,
    # last, as each of them compiles
    "attentions": measure_attentions,
}


def run_section(section: Callable[[], Any]) -> Any:
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
        if "failed" in value:
            return f"failed: {value['failed']}"
        used = f", {value['mfu']:.1%} MFU" if value.get("mfu") else ""
        used += f", {value['gigabytes']:.1f} GB" if value.get("gigabytes") else ""
        used += f", samples {value['samples_s']:.2f} s" if value.get("samples_s") else ""
        return f"{value['ms']:.1f} ms, {value['tokens_per_s']:,.0f} tokens/s{used}"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def main(words: list[str]) -> None:
    """Run the sections, and write what they say after each."""
    import torch

    if not torch.cuda.is_available():
        sys.exit("error: torch sees no GPU here, and nothing was measured; run benchmarks/gpu.py where there is one")
    OPTIONS.update((word.partition("=")[0], word.partition("=")[2]) for word in words if "=" in word)
    chosen = [word for word in words if "=" not in word] or [*SECTIONS]
    document: dict[str, Any] = {"device": name_device(), "torch": torch.__version__, "sections": {}}
    path = Path(OPTIONS.get("to", "gpu.json"))
    for name in chosen:
        late = is_time_up()
        document["sections"][name] = {"skipped": "the time was up"} if late else run_section(SECTIONS[name])
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(format_table(document))


if __name__ == "__main__":
    main(sys.argv[1:])
