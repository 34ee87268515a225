"""Time of a mixture of experts against that of its dense MLP, forward and back, all in turn, as ratios of medians.

    python benchmarks/experts.py [--width 128] [--tokens 768]

What grows with the active experts and not with all of them costs the same at 4, 16 and 64 experts.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from gptlab.model.expert_kernels import force_expert_kernel
from gptlab.model.forward_pass import ForwardPass
from gptlab.model.mlp.gated import GatedMlp
from gptlab.model.mlp.mixture import MixtureMlp
from gptlab.model.position import Position
from gptlab.model.shape import Shape

ROUNDS = 15


def main() -> None:
    """Time all mixtures in turn, and print their ratios to the dense MLP."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=768)
    given = parser.parse_args()
    width, tokens = given.width, given.tokens
    torch.set_num_threads(1)
    shape = Shape(width=width, heads=1, layers=1, context=tokens, vocab=1)
    x, positions = torch.randn(1, tokens, width), torch.arange(tokens)[None]
    forward_pass = ForwardPass(positions, positions, Position(shape))

    def make_step(mlp: Any, kernel: str) -> Callable[[], None]:
        def step() -> None:
            with force_expert_kernel(kernel):
                mlp(x, forward_pass).sum().backward()

        return step

    steps = {"dense MLP": make_step(GatedMlp(shape), "loop")}
    for experts in (4, 16, 64):
        mixture = MixtureMlp(shape, expert=GatedMlp, experts=experts, top_k=2)
        for kernel in ("loop", "grouped", "dense"):
            if kernel != "dense" or experts < 64:
                steps[f"{experts} experts, {kernel}"] = make_step(mixture, kernel)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            start = time.thread_time()  # of this thread: what the neighbours of a busy machine take is not counted
            step()
            seconds[name].append(time.thread_time() - start)
    base = median(seconds["dense MLP"])
    print(f"width {width}, {tokens} tokens, top_k=2, hidden = dense / 2: the dense MLP {base * 1000:.2f} ms of CPU")
    for name, times in seconds.items():
        print(f"  {name:22} {median(times) / base:.2f}")


if __name__ == "__main__":
    main()
