"""Compare a checkpoint here and in transformers, and find the first place that differs.

Both run in float32 on the CPU; after the embeddings, each block's attention, MLP and sum, and the last norm, what
comes out is compared. A place differs when the largest difference exceeds 1e-4 of the largest value there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gptlab.config.recipe import Recipe
from gptlab.errors import Refused
from gptlab.model.decoder import Decoder
from gptlab.training.build import build_decoder, load_starting_weights
from gptlab.training.check import check_recipe
from gptlab.weights.pretrained import files, load_source

TOLERANCE = 1e-4
"""Largest difference over largest value."""
TOKENS_COMPARED = 48
"""Tokens that are compared."""


@dataclass(frozen=True)
class Place:
    """A tensor that both compute. `difference`: largest difference over largest value."""

    name: str
    shape: tuple[int, ...]
    difference: float

    @property
    def is_same(self) -> bool:
        """Within what float32 allows."""
        return self.difference <= TOLERANCE


def load_in_transformers(folder: Path) -> nn.Module:
    """Return the checkpoint as transformers runs it."""
    try:
        from transformers import AutoModelForCausalLM
    except ModuleNotFoundError as error:
        raise Refused("diff runs the checkpoint in transformers too: pip install 'gptlab[pretrained]'") from error
    try:
        # eager: its fused attention rounds otherwise, and is not what is asked about
        opened: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
        )
        model, loaded = opened
    except Exception as error:  # of many kinds
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise Refused(f"transformers cannot open {folder}: {line[:160]}; save it with save_pretrained") from error
    # it only warns of tensors that it does not find, and draws them: every place would differ
    if missing := sorted(loaded["missing_keys"]):
        raise Refused(
            f"transformers finds no {missing[0]} in {folder}, nor {len(missing) - 1} others of its tensors; "
            "save it with save_pretrained"
        )
    return model.eval()


def compare_places(model: nn.Module, decoder: Decoder) -> list[Place]:
    """Compare every place in the order of computing, the logits last."""
    length = min(TOKENS_COMPARED, decoder.shape.context)
    tokens = torch.randint(0, decoder.shape.vocab, (2, length), generator=torch.Generator().manual_seed(0))
    # GPT-2's names, then those of Llama and its kin
    stack: Any = getattr(model, "transformer", None) or getattr(model, "model", None)
    blocks = getattr(stack, "h", None) or stack.layers
    their_parts = {"embeddings": _find_embeddings(stack)}
    our_parts: dict[str, nn.Module] = {}
    for number, (block, layer) in enumerate(zip(blocks, decoder.layers, strict=True)):
        parts = {"attention": getattr(block, "attn", None) or block.self_attn, "mlp": block.mlp, "sum": block}
        their_parts |= {f"block {number}, {name}": part for name, part in parts.items()}
        our_parts |= {f"block {number}, {name}": part for name, part in _parts_of_block(layer).items()}
    their_parts["last norm"], our_parts["last norm"] = getattr(stack, "ln_f", None) or stack.norm, decoder.norm
    their_outputs, our_outputs = (
        _record_outputs(either, parts, tokens) for either, parts in ((model, their_parts), (decoder, our_parts))
    )
    our_outputs["embeddings"] = decoder.position.embed(decoder.embed_tokens(tokens), torch.arange(length)[None])
    return [_compare_tensors(name, their_outputs[name], our_outputs[name]) for name in their_outputs]


def _parts_of_block(layer: Any) -> dict[str, nn.Module]:
    return {"attention": layer.attention, "mlp": layer.mlp, "sum": layer}


def _find_embeddings(stack: Any) -> nn.Module:
    """Return the module that hands the first block its input: a dropout that is off, or the embedding."""
    return stack.drop if hasattr(stack, "drop") else stack.embed_tokens


@torch.no_grad()
def _record_outputs(model: nn.Module, parts: dict[str, nn.Module], tokens: Tensor) -> dict[str, Tensor]:
    """Return the output of each part, in the order of computing, and the logits."""
    outputs: dict[str, Tensor] = {}

    def make_hook(name: str):
        def hook(_: nn.Module, __: Any, out: Any) -> None:
            # their attention returns its weights too
            outputs[name] = out[0] if isinstance(out, tuple) else out

        return hook

    hooks = [part.register_forward_hook(make_hook(name)) for name, part in parts.items()]
    try:
        outputs["logits"] = model(tokens).logits
    finally:
        for hook in hooks:
            hook.remove()
    return {name: outputs[name] for name in [*parts, "logits"]}


def _compare_tensors(name: str, wanted: Tensor, actual: Tensor) -> Place:
    largest = wanted.abs().max().item()
    # relative to the largest value: activations grow through the depth
    return Place(name, tuple(wanted.shape), (actual - wanted).abs().max().item() / (largest or 1.0))


def print_diff(checkpoint: str, overrides: list[str], compose: Callable[[list[str]], Recipe]) -> bool:
    """Print every place and the first that differs; return True if none does."""
    from rich.console import Console
    from rich.table import Table

    recipe = compose(["pretrained=hf", f"pretrained.path={checkpoint}", *overrides])
    for line in check_recipe(recipe):
        raise Refused(line)
    folder = files.locate_checkpoint(checkpoint)
    decoder = build_decoder(recipe, load_source(recipe.config["pretrained"]).vocab()).eval()
    load_starting_weights(recipe, decoder)
    places = compare_places(load_in_transformers(folder), decoder)
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("place")
    table.add_column("shape")
    table.add_column("difference / largest value", justify="right")
    for place in places:
        table.add_row(
            place.name,
            " x ".join(map(str, place.shape)),
            f"{place.difference:.1e}",
            style="" if place.is_same else "red",
        )
    console = Console(highlight=False)
    console.print(table)
    conclusion = "no place differs"
    first = next((place for place in places if not place.is_same), None)
    if first:
        conclusion = f"the first that differs: {first.name}, by {first.difference:.1e} of its largest value"
    console.print(f"\n{conclusion}")
    return first is None
