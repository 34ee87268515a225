"""One set of weights in several decoders, and how far apart these are on the same tokens."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from gptlab.config.recipe import Recipe
from gptlab.errors import Refused
from gptlab.study import Build

if TYPE_CHECKING:
    from torch import Tensor

    from gptlab.model.decoder import Decoder


def weights_of(run: str | None, recipe: Recipe, vocab: int, build: Build) -> "dict[str, Tensor]":
    """Those of a run, or of a recipe's init and seed."""
    if run is None:
        return build(unchanged(recipe), vocab).state_dict()
    from gptlab.restore import load_run
    from gptlab.weights.change import merge

    return merge(load_run(run)[0]).state_dict()


def batches(recipe: Recipe, vocab: int | None, batch: int, block: int) -> "tuple[Tensor, Tensor]":
    """Tokens and their targets, (batch, context): of the validation text, or random ones of a vocabulary."""
    import torch

    context = recipe.settings.model.context
    if vocab is None:
        from gptlab.corpus.load import read_corpus

        inputs, targets = read_corpus(recipe).windows(context, batch * context)
        return torch.from_numpy(inputs[0:batch]), torch.from_numpy(targets[0:batch])
    random = torch.Generator().manual_seed(block)
    both = torch.randint(vocab, (batch, context + 1), generator=random)
    return both[:, :-1], both[:, 1:]


def unchanged(recipe: Recipe) -> Recipe:
    """A recipe without changes."""
    return replace(recipe, config={**recipe.config, "change": {}})


def transplanted(name: str, recipe: Recipe, vocab: int, build: Build, weights: "dict[str, Tensor]") -> "Decoder":
    """The decoder of a recipe with another's weights, all of them, and then with its changes."""
    from gptlab.build import apply_changes

    decoder = build(unchanged(recipe), vocab)
    try:
        decoder.load_state_dict(weights)
    except RuntimeError as error:
        line = " ".join(str(error).split("\n\t")[1].split()) if "\n\t" in str(error) else str(error)
        raise Refused(f"{name}: the weights do not fit: {line[:160]}; change what has the same parameters") from error
    return apply_changes(recipe, decoder).eval()


def passing(decoder: "Decoder", tokens: "Tensor") -> Callable[[], None]:
    """A forward pass to be timed."""
    import torch

    def act() -> None:
        with torch.inference_mode():
            decoder.forward(tokens)

    return act


def distances(a: "Tensor", b: "Tensor") -> dict[str, float]:
    """Of two tensors of logits (B, T, V), in double precision."""
    a, b = a.double(), b.double()
    gap = (a - b).abs()
    centred = (a - b) - (a - b).mean(-1, keepdim=True)
    p, q = a.log_softmax(-1), b.log_softmax(-1)
    found = {
        "RMSE": gap.square().mean().sqrt(),
        "MAD": gap.mean(),
        "SD": gap.std(correction=0),
        "% first greater": 100 * (a > b).double().mean(),
        "% ties": 100 * (a == b).double().mean(),
        "RMSE/std": gap.square().mean().sqrt() / a.std(correction=0),
        "RMSE/std, centred": centred.square().mean().sqrt() / (a - a.mean(-1, keepdim=True)).std(correction=0),
        "KL": (p.exp() * (p - q)).sum(-1).mean(),
        "top-1 alike": (a.argmax(-1) == b.argmax(-1)).double().mean(),
    }
    return {name: value.item() for name, value in found.items()}
