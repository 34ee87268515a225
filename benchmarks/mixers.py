"""A training step with each attention, as a ratio to mha's (4 layers, 128 wide, batch 12 x 64), and a decoding step.

    python benchmarks/mixers.py                                    # all recurrent mixers, on one thread
    python benchmarks/mixers.py mha gla kda --rounds 30

Arms take turns, step by step, in one process. Times are of the process's own work (CPU time), which other programs on
the machine lengthen less than they lengthen the clock's. `grows` is a decoding step after 1,000 tokens over one after
10.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table

from gptlab import compose as wiring
from gptlab.config.factory import factory

VOCAB = 65
MIXERS = ["mha", "linear", "retention", "gla", "mamba2", "gated_deltanet", "kda", "rwkv7"]


def make_step(attention: str) -> Callable[[], object]:
    """Return a training step on random tokens."""
    recipe = wiring.compose(["model=micro", f"attention={attention}"])
    decoder = wiring.build_decoder(recipe, VOCAB).train()
    optimizer = factory(recipe.config["optimizer"], "optimizer")(decoder.named_parameters())
    tokens, targets = torch.randint(VOCAB, (2, 12, 64))

    def step() -> None:
        decoder(tokens, targets).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def make_decoding(attention: str, length: int) -> Callable[[], object]:
    """Return a step of decoding after `length` tokens."""
    decoder = wiring.build_decoder(wiring.compose(["model=micro", f"attention={attention}"]), VOCAB).eval()
    cache = decoder.new_cache(1, length + 1000)
    position, token = torch.tensor([[length]]), torch.zeros(1, 1, dtype=torch.long)
    with torch.no_grad():
        decoder(torch.randint(VOCAB, (1, length)), cache=cache)
    return torch.no_grad()(lambda: decoder(token, positions=position, cache=cache))


def time_in_turns(acts: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the CPU milliseconds of each act in each round, after two rounds of warming up."""
    times: dict[str, list[float]] = {name: [] for name in acts}
    for turn in range(rounds + 2):
        for name, act in acts.items():
            start = time.process_time()
            act()
            times[name] += [1000 * (time.process_time() - start)] if turn >= 2 else []
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("attentions", nargs="*", default=MIXERS)
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    torch.set_num_threads(1)
    times = time_in_turns({name: make_step(name) for name in given.attentions}, given.rounds)
    lengths = {f"{name} {length}": make_decoding(name, length) for name in given.attentions for length in (10, 1000)}
    decoding = {name: statistics.median(values) for name, values in time_in_turns(lengths, 5 * given.rounds).items()}
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in (f"torch {torch.__version__}", "ms a step", "ratio", "ms a token", "grows"):
        table.add_column(column, justify="left" if not table.columns else "right")
    first = times[given.attentions[0]]
    for name in given.attentions:
        ratio = statistics.median(a / b for a, b in zip(times[name], first, strict=True))
        late, early = decoding[f"{name} 1000"], decoding[f"{name} 10"]
        table.add_row(
            name, f"{statistics.median(times[name]):.1f}", f"{ratio:.2f}", f"{early:.2f}", f"{late / early:.2f}"
        )
    Console().print(table)


if __name__ == "__main__":
    main()
