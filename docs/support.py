"""Write docs/support.md: which parts of a decoder go together. Each pair is built, trained on and decoded with.

    make matrix

A pair is built at a tiny size, the other parts at their defaults, then run forward, backward, token by token with a
cache, and traced into one graph without a break (torch.compile); cache and graph must say what the whole text says.
What is refused stands in the page with its own words. 1,100 pairs take some ten minutes of two cores.
"""

import itertools
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from gptlab.compose import compose
from gptlab.config.menu import list_choices
from gptlab.config.recipe import Recipe
from gptlab.model.decoder import Decoder
from gptlab.training.build import build_decoder

PAGE = Path(__file__).with_name("support.md")
SLOTS = ("attention", "position", "residual", "mlp")
SIZES = ["model=nano", "model.width=48", "model.heads=4", "model.layers=2", "model.context=32"]
VOCAB, LENGTH = 31, 20
HEAD = """# What goes together

Written by `make matrix` (docs/support.py) from runs of every pair at a tiny size: forward, backward, decoding with a
cache, and compiled into one graph, which both say what the whole text says. A point is all four; a number is a note
below the table.
"""


def run_pair(recipe: Recipe) -> str:
    """Return the refusal of a recipe, what does not hold, or an empty text."""
    try:
        decoder = build_decoder(recipe, VOCAB).double()
    except ValueError as refused:
        return str(refused)
    tokens = torch.randint(VOCAB, (2, LENGTH), generator=torch.Generator().manual_seed(0))
    output = decoder(tokens, tokens.roll(-1, 1))
    (output.loss + sum(output.losses.values())).backward()
    if not all(p.grad is not None and p.grad.isfinite().all() for p in decoder.parameters()):
        return "a gradient is missing or not finite"
    decoder.eval()
    with torch.no_grad():
        logits = decoder(tokens).logits
        if not torch.allclose(decode_cached(decoder, tokens), logits):
            return "the cache does not say what the whole text says"
        return compare_compiled(decoder, tokens, logits)


def compare_compiled(decoder: Decoder, tokens: torch.Tensor, logits: torch.Tensor) -> str:
    """Return why a decoder is no graph, or none that gives these logits (B, T, vocab), or an empty text."""
    torch.compiler.reset()
    try:
        # what inductor makes of a graph is its own affair; whether there is one is the pair's
        compiled = torch.compile(decoder, backend="eager", fullgraph=True)(tokens).logits
    except torch._dynamo.exc.Unsupported as broken:
        return f"no graph: {str(broken).splitlines()[0]}"
    return "" if torch.allclose(compiled, logits) else "the graph does not say what the whole text says"


def decode_cached(decoder: Decoder, tokens: torch.Tensor) -> torch.Tensor:
    """Return the logits of tokens (B, T), (B, T, vocab), read one by one after the first half."""
    cache, half = decoder.new_cache(*tokens.shape), tokens.shape[1] // 2
    parts = [slice(0, half), *(slice(t, t + 1) for t in range(half, tokens.shape[1]))]
    positions = torch.arange(tokens.shape[1])[None]
    return torch.cat([decoder(tokens[:, p], positions=positions[:, p], cache=cache).logits for p in parts], 1)


def render_table(rows: str, columns: str) -> str:
    """Return the table of two slots in Markdown, and its notes."""
    torch.set_num_threads(1)
    base = compose(SIZES).config
    nodes = {
        slot: {name: compose([*SIZES, f"{slot}={name}"]).config[slot] for name in list_choices(slot)}
        for slot in (rows, columns)
    }
    notes: list[str] = []
    lines = [f"| {rows} \\ {columns} | {' | '.join(nodes[columns])} |", f"| :-- |{' :-: |' * len(nodes[columns])}"]
    for name, node in nodes[rows].items():
        cells = []
        for other in nodes[columns].values():
            text = run_pair(Recipe(base | {rows: node, columns: other}))
            if text and text not in notes:
                notes.append(text)
            cells.append(f"{notes.index(text) + 1}" if text else "·")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    numbered = [f"{number}. {text}" for number, text in enumerate(notes, 1)]
    return "\n".join([f"## {rows} x {columns}", "", *lines, *([""] if notes else []), *numbered, ""])


def main() -> None:
    """Write the page."""
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        tables = list(pool.map(render_table, *zip(*itertools.combinations(SLOTS, 2), strict=True)))
    PAGE.write_text("\n".join([HEAD, *tables]), encoding="utf-8")


if __name__ == "__main__":
    main()
