"""Where our decoder first says something else than transformers does on the same checkpoint and tokens.

Both are run in float32 on the CPU; after the embeddings, each block's attention, MLP and sum, and the last norm, what
comes out is compared. A place differs when the largest difference exceeds 1e-4 of the largest value there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gptlab.build import build, check, start
from gptlab.config.recipe import Recipe
from gptlab.errors import Refused
from gptlab.model.decoder import Decoder
from gptlab.weights.pretrained import files, source

CLOSE = 1e-4
"""Largest difference over largest value."""
LENGTH = 48
"""Tokens that are compared."""


@dataclass(frozen=True)
class Place:
    """A tensor that both compute. `apart`: largest difference over largest value."""

    name: str
    shape: tuple[int, ...]
    apart: float

    @property
    def same(self) -> bool:
        """Within what float32 allows."""
        return self.apart <= CLOSE


def theirs(folder: Path) -> nn.Module:
    """The checkpoint as transformers runs it."""
    try:
        from transformers import AutoModelForCausalLM
    except ModuleNotFoundError as error:
        raise Refused("diff runs the checkpoint in transformers too: pip install 'gptlab[pretrained]'") from error
    try:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    except Exception as error:  # of many kinds
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise Refused(f"transformers cannot open {folder}: {line[:160]}; save it with save_pretrained") from error


def places(model: nn.Module, decoder: Decoder) -> list[Place]:
    """Every place in the order of computing, the logits last."""
    length = min(LENGTH, decoder.shape.context)
    tokens = torch.randint(0, decoder.shape.vocab, (2, length), generator=torch.Generator().manual_seed(0))
    stack: Any = getattr(model, "transformer", None) or getattr(model, "model", None)
    blocks = getattr(stack, "h", None) or stack.layers
    wanted = {"embeddings": _embeddings(stack)}
    here: dict[str, nn.Module] = {}
    for number, (block, layer) in enumerate(zip(blocks, decoder.layers, strict=True)):
        parts = {"attention": getattr(block, "attn", None) or block.self_attn, "mlp": block.mlp, "sum": block}
        wanted |= {f"block {number}, {name}": part for name, part in parts.items()}
        here |= {f"block {number}, {name}": part for name, part in _ours(layer).items()}
    wanted["last norm"], here["last norm"] = getattr(stack, "ln_f", None) or stack.norm, decoder.norm
    told, said = (_watched(one, parts, tokens) for one, parts in ((model, wanted), (decoder, here)))
    said["embeddings"] = decoder.position.embed(decoder.embedding(tokens), torch.arange(length)[None])
    return [_compared(name, told[name], said[name]) for name in told]


def _ours(layer: Any) -> dict[str, nn.Module]:
    return {"attention": layer.attention, "mlp": layer.mlp, "sum": layer}


def _embeddings(stack: Any) -> nn.Module:
    """What hands the first block its input: a dropout that is off, or the embedding."""
    return stack.drop if hasattr(stack, "drop") else stack.embed_tokens


@torch.no_grad()
def _watched(model: nn.Module, parts: dict[str, nn.Module], tokens: Tensor) -> dict[str, Tensor]:
    """What each part gave out, in the order of computing, and the logits."""
    seen: dict[str, Tensor] = {}

    def keep(name: str):
        def hook(module: nn.Module, args: Any, out: Any) -> None:
            seen[name] = out[0] if isinstance(out, tuple) else out

        return hook

    hooks = [part.register_forward_hook(keep(name)) for name, part in parts.items()]
    try:
        seen["logits"] = model(tokens).logits
    finally:
        for hook in hooks:
            hook.remove()
    return {name: seen[name] for name in [*(name for name in parts), "logits"]}


def _compared(name: str, wanted: Tensor, found: Tensor) -> Place:
    most = wanted.abs().max().item()
    return Place(name, tuple(wanted.shape), (found - wanted).abs().max().item() / (most or 1.0))


def show(checkpoint: str, overrides: list[str], compose: Callable[[list[str]], Recipe]) -> bool:
    """Prints every place and the first that differs; True if none does."""
    from rich.console import Console
    from rich.table import Table

    recipe = compose(["pretrained=hf", f"pretrained.path={checkpoint}", *overrides])
    for line in check(recipe):
        raise Refused(line)
    folder = files.found(checkpoint)
    decoder = build(recipe, source(recipe.config["pretrained"]).vocab()).eval()
    start(recipe, decoder)
    found = places(theirs(folder), decoder)
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("place")
    table.add_column("shape")
    table.add_column("difference / largest value", justify="right")
    for one in found:
        table.add_row(one.name, " x ".join(map(str, one.shape)), f"{one.apart:.1e}", style="" if one.same else "red")
    console, first = Console(highlight=False), next((one for one in found if not one.same), None)
    console.print(table)
    told = (
        f"the first that differs: {first.name}, by {first.apart:.1e} of its largest value"
        if first
        else "no place differs"
    )
    console.print(f"\n{told}")
    return first is None
