"""Size of a decoder: parameters by part, bytes, FLOPs of a token, bytes of cache.

Counted on what is built, not by formula.

The decoder is built without memory (meta device), so the largest sizes take no longer. FLOPs are those of a forward
pass over one context, divided by its tokens.
"""

from pathlib import Path

from gptlab.config.recipe import Recipe
from gptlab.stats.measurements import Row
from gptlab.study import Build, Study, get_vocab_size
from gptlab.training.build import build_on_meta

REST = "norms, residual"
PARTS = ("embedding", "position", "attention", "mlp", REST, "readout")
"""Parts by which parameters are counted; REST has all that no other part names."""


class Size(Study):
    """Count what each arm holds and costs.

    vocab  vocabulary size; null is that of the recipe's text
    """

    def __init__(self, *, vocab: int | None = None) -> None:
        if vocab is not None and vocab < 2:
            raise ValueError(f"vocab={vocab} is less than 2; give 2 or more")
        self.vocab = vocab

    def __call__(self, arms: dict[str, Recipe], block: int, build: Build, folder: Path) -> list[Row]:
        rows = []
        for name, recipe in arms.items():
            sizes = count_sizes(recipe, get_vocab_size(recipe, self.vocab))
            rows += [Row(name, block, metric, value) for metric, value in sizes.items()]
        return rows


def count_sizes(recipe: Recipe, vocab: int) -> dict[str, float]:
    """Return all counts of one recipe's decoder, by metric."""
    from gptlab.model.costs import count_costs, count_forward_flops  # late: they import torch

    decoder, context = build_on_meta(recipe, vocab), recipe.settings.model.context
    costs = count_costs(decoder)
    total = costs.params
    parts = dict.fromkeys(PARTS, 0)
    for name, p in decoder.named_parameters():  # a tied head is counted as the embedding
        path = name.split(".")
        part = path[2] if path[0] == "blocks" else path[0]
        # layers that predict tokens ahead in training are the readout's, which asks for them (readout=mtp)
        part = "readout" if part == "ahead" else part
        part = "embedding" if part == "embedder" else part
        # norms belong to residuals, whose gains and mixes are counted with them
        parts[part if part in parts else REST] += p.numel()
    return {
        "parameters": total,
        **parts,
        "MiB float32": 4 * total / 2**20,
        "MiB bf16": 2 * total / 2**20,
        "MiB int8": total / 2**20,
        "MFLOPs/token": count_forward_flops(decoder, context) / context / 1e6,
        "cache bytes/token": costs.cache_bytes_per_token,
    }
