"""What a decoder holds and costs: parameters by part, bytes, FLOPs of a token, bytes of cache. Counted, not recited.

The decoder is built without memory (meta device), so the largest sizes take no longer. FLOPs are those of a forward
pass over one context, for each of its tokens.
"""

from pathlib import Path

from gptlab.build import build_on_meta
from gptlab.config.recipe import Recipe
from gptlab.stats.measurements import Row
from gptlab.study import Build, Study, vocabulary


class Size(Study):
    """vocab: null is that of the recipe's text."""

    def __init__(self, *, vocab: int | None = None) -> None:
        if vocab is not None and vocab < 2:
            raise ValueError(f"vocab={vocab} is less than 2; give 2 or more")
        self.vocab = vocab

    def __call__(self, arms: dict[str, Recipe], block: int, build: Build, folder: Path) -> list[Row]:
        return [
            Row(name, block, metric, value)
            for name, recipe in arms.items()
            for metric, value in counts(recipe, vocabulary(recipe, self.vocab)).items()
        ]


def counts(recipe: Recipe, vocab: int) -> dict[str, float]:
    """All that is counted of one recipe."""
    made, context = build_on_meta(recipe, vocab), recipe.settings.model.context
    total = sum(p.numel() for p in made.parameters())
    parts = dict.fromkeys(("embedding", "position", "attention", "mlp", "norms", "readout"), 0)
    for name, p in made.named_parameters():  # a tied head is counted as the embedding
        words = name.split(".")
        inside = words[2] if words[0] == "blocks" else words[0]
        parts[inside if inside in parts else "norms"] += p.numel()
    held = sum(one.nbytes for one in made.new_cache(1, context) if one is not None)
    return {
        "parameters": total,
        **parts,
        "MiB float32": 4 * total / 2**20,
        "MiB bf16": 2 * total / 2**20,
        "MiB int8": total / 2**20,
        "MFLOPs/token": made.flops(context) / context / 1e6,
        "cache bytes/token": held / context,
    }
