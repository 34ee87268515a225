"""Outline of a mapped checkpoint from its shapes: vocabulary, context, widths, depth, and which parts there are."""

import math
from typing import Any

from gptlab.errors import Refused
from gptlab.model.shape import divisors
from gptlab.weights.pretrained.mapping import Mapping, Shapes, match_entries

HEAD_WIDTHS = (64, 128, 32, 80, 96, 256)
"""Widths of a head, the likeliest first."""


class Outline:
    """Sizes from source shapes, read whichever way a matrix lies: its entries over the width of the norms."""

    def __init__(self, mapping: Mapping, source: Shapes) -> None:
        self.entries: dict[str, int] = {}
        for name, (entry, targets) in match_entries(mapping, source).items():
            shares = entry.sizes or (1,) * len(targets)
            # numbers of entries, and no shapes: a matrix that lies the other way has as many
            whole = math.prod(source[name])
            self.entries |= {one: whole * part // sum(shares) for one, part in zip(targets, shares, strict=True)}
        self.width = self._count_entries("norm.weight")
        self.vocab = self.other_side("embedding.weight")
        self.queries = self.other_side("blocks.0.attention.q.weight")
        self.keys = self.other_side("blocks.0.attention.k.weight")
        self.hidden = self.other_side("blocks.0.mlp.up.weight")
        self.layers = 1 + max(int(name.split(".")[1]) for name in self.entries if name.startswith("blocks."))
        # rope has no weights: without a table of positions it is what is left
        self.rotary = "position.table.weight" not in self.entries

    def other_side(self, name: str) -> int:
        """Return the other side of a matrix, one of whose sides is the width."""
        return self._count_entries(name) // self.width

    def _count_entries(self, name: str) -> int:
        if name not in self.entries:
            raise Refused(f"keys_mapping: no tensor of the file leads to {name}, which tells a size")
        return self.entries[name]

    def possible_heads(self) -> list[int]:
        """Return all numbers of heads that the widths of queries and keys allow, the likeliest first."""
        numbers = []
        for number in divisors(self.queries):
            head = self.queries // number
            # each head of keys serves a whole number of heads of queries; rope pairs features, so it wants an even head
            shared = self.keys % head == 0 and number % max(1, self.keys // head) == 0
            if (
                shared
                and head == self.entries.get("blocks.0.attention.q_norm.weight", head)
                and not (self.rotary and head % 2)
            ):
                numbers.append(number)
        return sorted(numbers, key=lambda number: _rank_head_width(self.queries // number))

    def make_knobs(self, heads: int, longest: int) -> dict[str, Any]:
        """Return overrides of train.py that make such a decoder with so many heads.

        `longest`: its context, where no table of positions tells it.
        """
        has = self.entries.__contains__
        return {
            "attention": "gqa",
            **self.split_heads(heads),
            "attention.bias": has("blocks.0.attention.q.bias"),
            "attention.out_bias": has("blocks.0.attention.out.bias"),
            "attention.qk_norm": has("blocks.0.attention.q_norm.weight"),
            "position": "rope" if self.rotary else "learned",
            "norm": "layernorm" if has("norm.bias") else "rmsnorm",
            "mlp": "swiglu" if has("blocks.0.mlp.gate.weight") else "gelu",
            "mlp.hidden": self.hidden,
            "mlp.bias": has("blocks.0.mlp.up.bias"),
            "readout": "untied" if has("readout.head.weight") else "tied",
            "bias": has("norm.bias"),
            # the table is as the file has it, padded or not
            "vocab_multiple": 1,
            "model.width": self.width,
            "model.layers": self.layers,
            "model.context": longest if self.rotary else self.other_side("position.table.weight"),
        }

    def split_heads(self, heads: int) -> dict[str, int]:
        """Return the knobs that so many heads are."""
        head = self.queries // heads
        return {"model.heads": heads, "model.head": head, "attention.kv_heads": self.keys // head}


def _rank_head_width(head: int) -> tuple[int, int]:
    # unusual widths last
    return (HEAD_WIDTHS.index(head), 0) if head in HEAD_WIDTHS else (len(HEAD_WIDTHS), -head)
