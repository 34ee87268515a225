"""Training steps in this process: by batch size, by attention, without waits, of eight seeds at once."""

import statistics
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from gpu_sections.arms import OPTIONS, Result, measure_arms
from gpu_sections.bench import make_bench, measure_peak_gigabytes, measure_recipe

GPT2 = ("experiment=gpt2", "model=gpt2", "vocab_multiple=50304")
BATCHES = (8, 16, 32, 64)
SEEDS = 8


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
