"""Arms that are one function under two names: a window of the whole context is no window, a layout of one kind is that.

Found by what the built decoders compute, not by a list of cases. Two recipes train alike if all but the decoder's parts
is equal, and their decoders have the same parameters, the same first values, the same loss and the same gradients at
weights drawn at random, in float64, with dropout on. Where they place tokens otherwise (position=), the same logits
beyond the context too: what a position does there is often the question. A window beyond it is none for training.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gptlab.config.recipe import PARTS, Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from gptlab.model.decoder import Decoder

VOCAB = 61
LARGEST, LONGEST = 20e6, 2048
"""Parameters and context up to which decoders are built to be compared: a fraction of a second."""
SPREAD = 0.1
"""SD of what is added to every weight, so that none hides behind a zero."""
TOLERANCE = 1e-10
"""Relative difference up to which float64 results are equal: sums in another order are within 1e-14."""


def find_same_functions(recipes: dict[str, Recipe]) -> dict[str, str]:
    """Return, for each recipe that is another one under a second name, the first one of that function."""
    same: dict[str, str] = {}
    for names in _group_by_settings(recipes):
        traces: list[tuple[str, Recipe, dict[str, Tensor]]] = []
        for name in names:
            trace = _trace(recipes[name])
            # with one of each function that was seen: equal to it is equal to all of its kind
            first = next((first for first, other, seen in traces if _agree(recipes[name], trace, other, seen)), None)
            if first is None:
                traces.append((name, recipes[name], trace))
            else:
                same[name] = first
    return same


def _group_by_settings(recipes: dict[str, Recipe]) -> Iterable[list[str]]:
    """Return the names of recipes that differ in the decoder's parts alone and have the same parameters, in groups."""
    groups: dict[str, list[str]] = {}
    for name, recipe in recipes.items():
        # all but the decoder's parts, by the hash of what is left
        config = {**recipe.config, **dict.fromkeys(PARTS)}
        groups.setdefault(replace(recipe, config=config).hash, []).append(name)
    for names in groups.values():
        by_shapes: dict[Any, list[str]] = {}
        # shapes cost a build on meta, and most arms are alone here
        for name in names if len(names) > 1 else ():
            if (shapes := _list_shapes(recipes[name])) is not None:
                by_shapes.setdefault(shapes, []).append(name)
        yield from (same for same in by_shapes.values() if len(same) > 1)


def _list_shapes(recipe: Recipe) -> tuple[Any, ...] | None:
    """Return the names and shapes of a decoder's parameters; None where it is too large to be compared."""
    from gptlab.training.build import build_on_meta

    decoder = build_on_meta(recipe, VOCAB)
    shapes = tuple(sorted((name, tuple(weight.shape)) for name, weight in decoder.named_parameters()))
    count = sum(weight.numel() for weight in decoder.parameters())
    return shapes if count <= LARGEST and decoder.shape.context <= LONGEST else None


def _trace(recipe: Recipe) -> dict[str, "Tensor"]:
    """Return a decoder's first weights, and its outputs at random weights, by name."""
    import torch

    from gptlab.training.build import build_decoder

    # the process's own random state stays: a run may follow in it
    with torch.random.fork_rng(devices=[]):
        # training mode, since dropout that differs makes two functions
        decoder = build_decoder(recipe, VOCAB).double().train()
        trace = {f"first {name}": weight.detach().clone() for name, weight in decoder.named_parameters()}
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            # by name, or parts that are built in another order would draw otherwise
            for _, weight in sorted(decoder.named_parameters()):
                weight += SPREAD * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
        context = decoder.shape.context
        # one context to train on, and a second for what lies beyond
        tokens = torch.randint(VOCAB, (1, 2 * context + 1), generator=generator)
        torch.manual_seed(2)  # of dropout
        output = decoder(tokens[:, :context], tokens[:, 1 : context + 1])
        assert output.loss is not None
        loss = torch.stack([output.loss.mean(), *output.losses.values()]).sum()
        loss.backward()
        trace["loss"] = loss.detach()
        trace |= {f"gradient {n}": w.grad for n, w in decoder.named_parameters() if w.grad is not None}
        trace["beyond"] = _compute_logits_beyond(decoder, tokens[:, :-1])
    return trace


def _compute_logits_beyond(decoder: "Decoder", tokens: "Tensor") -> "Tensor":
    """Return the logits over two contexts; none where the position knows one alone."""
    import torch

    known = decoder.position.length
    if known is not None and known < tokens.shape[1]:
        return torch.zeros(0)
    with torch.no_grad():
        return decoder.eval()(tokens).logits


def _agree(recipe: Recipe, trace: dict[str, "Tensor"], other: Recipe, seen: dict[str, "Tensor"]) -> bool:
    """Return whether two decoders are one function, by their traces."""
    import torch

    keys = {*trace} | {*seen}
    # a window wider than the context acts only beyond it, where no training goes
    if recipe.config["position"] == other.config["position"]:
        keys.discard("beyond")
    for key in keys:
        if key not in trace or key not in seen or trace[key].shape != seen[key].shape:
            return False
        if not torch.allclose(trace[key], seen[key], rtol=TOLERANCE, atol=1e-14):
            return False
    return True
