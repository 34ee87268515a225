"""Writing with caches, GPT-2 124M at batch 1: our variants against transformers' generate, and against the memory.

    python benchmarks/decode.py                     # 200 tokens, random weights, six rounds
    python benchmarks/decode.py --model micro --tokens 60

Arms take turns in an order drawn anew each round. `limit` is every Linear's weight met once a token and nothing else,
which no decoder of the same weights can beat; `again` shows what chance does. Needs transformers: pip install -e
".[pretrained]".
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from gptlab import compose as wiring
from gptlab.model.decoder import Decoder
from gptlab.study.decode import DecodeBench
from gptlab.study.tools.cached_decoding import CACHED_VARIANTS

VOCAB = 50257
OURS = {"ours, eager": "sdpa", "ours, eager again": "sdpa", "ours, compiled": "compile", "ours, int8": "int8"}


def load_transformers_generate(decoder: Decoder) -> Callable[[Tensor, int], Tensor]:
    """Return the generation of transformers' model of the same sizes, greedy, with its cache."""
    from transformers import GPT2Config, GPT2LMHeadModel, logging

    logging.set_verbosity_error()
    shape = decoder.shape
    sizes = {"n_positions": shape.context, "n_embd": shape.width, "n_layer": shape.layers, "n_head": shape.heads}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB, **sizes, bos_token_id=None, eos_token_id=None)).eval()

    def write(prompt: Tensor, length: int) -> Tensor:
        with torch.inference_mode():
            return model.generate(prompt, max_new_tokens=length, do_sample=False, use_cache=True, pad_token_id=0)

    return write


def time_call_ms(act: Callable[[], object]) -> float:
    """Return the milliseconds of a call."""
    start = time.perf_counter()
    act()
    return (time.perf_counter() - start) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="gpt2")
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    recipe = wiring.compose(["experiment=gpt2", f"model={given.model}", "vocab_multiple=1"])
    decoder = wiring.build_decoder(recipe, VOCAB).eval()
    prompt, length = torch.zeros(1, 1, dtype=torch.long), given.tokens - 1
    time_limit = DecodeBench(decoder, given.tokens, ["sdpa"], 1).time_limit
    variants = {name: CACHED_VARIANTS[name](decoder, 1) for name in {*OURS.values()}}
    writers = {
        "transformers": load_transformers_generate(decoder),
        **{arm: variants[name].write for arm, name in OURS.items()},
    }
    times: dict[str, list[float]] = {name: [] for name in (*writers, "limit")}
    order = [*times]
    for turn in range(given.rounds + 1):
        random.Random(turn).shuffle(order)
        for name in order:
            one = (
                time_limit()
                if name == "limit"
                else time_call_ms(lambda act=writers[name]: act(prompt, length)) / length
            )
            times[name] += [one] if turn else []  # the first is to warm up, and to compile
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in (f"{given.threads} threads, torch {torch.__version__}", "ms a token", "least", "ratio", "of limit"):
        table.add_column(column, justify="left" if not table.columns else "right")
    for name, times_ms in times.items():
        ratios = [
            statistics.median(a / b for a, b in zip(times_ms, times[other], strict=True))
            for other in ("transformers", "limit")
        ]
        cells = [statistics.median(times_ms), min(times_ms)]
        table.add_row(name, *(f"{one:.2f}" for one in cells), *(f"{one:.3f}" for one in ratios))
    Console().print(table)


if __name__ == "__main__":
    main()
