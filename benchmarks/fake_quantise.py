"""A training step of model=micro with rounded Linears over the same in floats, format by format.

    python benchmarks/fake_quantise.py                 # weights and activations of all blocks, one thread
    python benchmarks/fake_quantise.py --what weight

Arms take turns in an order drawn anew each round; `float again` shows what chance does. The goal is at most 2.
"""

import argparse
import statistics
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table

from gptlab import compose as wiring
from gptlab.config.factory import locate
from gptlab.config.menu import list_choices, read_choice
from gptlab.study.tools.timing import time_interleaved

VOCAB, BATCH = 65, 12


def make_step(words: list[str]) -> Callable[[], None]:
    """Return a training step (forward, backward, AdamW) of a decoder."""
    from gptlab.config.factory import factory

    recipe = wiring.compose(["model=micro", *words])
    decoder = wiring.build_decoder(recipe, VOCAB).train()
    optimizer = factory(recipe.config["optimizer"], "optimizer")(decoder.trainable_parameters(), lr=0.0)
    draws = torch.Generator().manual_seed(0)
    tokens = torch.randint(VOCAB, (BATCH, recipe.settings.model.context + 1), generator=draws)

    # formats that are fitted to their activations watch a pass before they round, as between steps 1 and 2 of a run
    hooks = [hook for part in decoder.modules() if callable(hook := getattr(part, "after_step", None))]
    for number in range(2):
        for hook in hooks:
            hook(number)
        with torch.no_grad():
            decoder(tokens[:, :-1])

    def step() -> None:
        output = decoder(tokens[:, :-1], tokens[:, 1:])
        (output.loss + sum(output.losses.values())).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", choices=("weight", "both"), default="both")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    places = ["weight", "activation"] if given.what == "both" else ["weight"]
    arms = {"float": [], "float again": []}
    for name in list_choices("format"):
        # a sign alone keeps no size, and is refused for weights
        if not locate(read_choice("format", name)["_target_"], "format").scaled:
            continue
        arms[name] = [
            "change=[quantize]",
            "change.quantize.start=2",
            *(f"format@change.quantize.{place}={name}" for place in places),
        ]
    times = time_interleaved({name: make_step(words) for name, words in arms.items()}, float("inf"), given.rounds)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in (f"{given.what}, {given.threads} threads, torch {torch.__version__}", "ms a step", "ratio"):
        table.add_column(column, justify="left" if not table.columns else "right")
    for name, times_ms in times.items():
        ratio = statistics.median(a / b for a, b in zip(times_ms, times["float"], strict=True))
        table.add_row(name, f"{statistics.median(times_ms):.1f}", f"{ratio:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
