"""One training step of a recipe, timed: milliseconds, tokens a second, the share of the card's peak, memory."""

import statistics
from typing import Any

from gpu_sections.arms import Result


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


def measure_recipe(*overrides: str, steps: int = 20) -> Result:
    """Time a step of a recipe."""
    bench = make_bench(*overrides)
    return describe_speed(bench, time_steps(bench, steps))
