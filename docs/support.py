"""Write docs/support.md: which parts of a decoder go together. Each pair is built, trained on and decoded with.

    make matrix

A pair is built at a tiny size, the other parts at their defaults, then run forward, backward, and token by token with a
cache, which must say what the whole text says. What is refused stands in the page with its own words.
"""

import itertools
from pathlib import Path
from typing import Any

import torch

from gptlab.compose import compose
from gptlab.config.menu import list_choices
from gptlab.config.recipe import Recipe
from gptlab.model.decoder import Decoder
from gptlab.training.build import build_decoder

PAGE = Path(__file__).with_name("support.md")
SLOTS = ("attention", "position", "residual", "mlp")
SIZES = ["model=nano", "model.width=48", "model.heads=4", "model.layers=4", "model.context=32"]
VOCAB, LENGTH = 31, 20
HEAD = """# What goes together

Written by `make matrix` (docs/support.py) from runs of every pair at a tiny size: forward, backward, and decoding with
a cache that says what the whole text says. A point is all three; a number is a note below the table.
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
        agrees = torch.allclose(decode_cached(decoder, tokens), decoder(tokens).logits)
    return "" if agrees else "the cache does not say what the whole text says"


def decode_cached(decoder: Decoder, tokens: torch.Tensor) -> torch.Tensor:
    """Return the logits of tokens (B, T), (B, T, vocab), read one by one after the first half."""
    cache, half = decoder.new_cache(*tokens.shape), tokens.shape[1] // 2
    parts = [slice(0, half), *(slice(t, t + 1) for t in range(half, tokens.shape[1]))]
    positions = torch.arange(tokens.shape[1])[None]
    return torch.cat([decoder(tokens[:, p], positions=positions[:, p], cache=cache).logits for p in parts], 1)


def render_table(rows: str, columns: str, nodes: dict[str, dict[str, Any]], base: dict[str, Any]) -> str:
    """Return the table of two slots in Markdown, and its notes."""
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
    torch.set_num_threads(1)
    base = compose(SIZES).config
    nodes = {
        slot: {name: compose([*SIZES, f"{slot}={name}"]).config[slot] for name in list_choices(slot)} for slot in SLOTS
    }
    tables = [render_table(*pair, nodes, base) for pair in itertools.combinations(SLOTS, 2)]
    PAGE.write_text("\n".join([HEAD, *tables]), encoding="utf-8")


if __name__ == "__main__":
    main()
