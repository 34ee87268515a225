"""One set of weights in several decoders, and the distances of their logits on the same tokens."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from gptlab.config.recipe import Recipe
from gptlab.errors import Refused
from gptlab.study import Build

if TYPE_CHECKING:
    from torch import Tensor

    from gptlab.model.decoder import Decoder


def load_weights(run: str | None, recipe: Recipe, vocab: int, build: Build) -> "dict[str, Tensor]":
    """Return the weights of a run, changes merged, or where it is None those of a recipe's init and seed."""
    if run is None:
        return build(drop_changes(recipe), vocab).state_dict()
    from gptlab.training.restore import load_run
    from gptlab.weights.change import merge

    return merge(load_run(run)[0]).state_dict()


def make_batch(recipe: Recipe, vocab: int | None, batch: int, block: int) -> "tuple[Tensor, Tensor]":
    """Return tokens and their targets, (batch, context): of the validation text, or random ones of `vocab`."""
    import torch

    context = recipe.settings.model.context
    if vocab is None:
        from gptlab.corpus.corpus import read_windows
        from gptlab.corpus.load import read_corpus

        inputs, targets = read_windows(read_corpus(recipe), context, batch * context)
        return torch.from_numpy(inputs[0:batch]), torch.from_numpy(targets[0:batch])
    generator = torch.Generator().manual_seed(block)
    tokens = torch.randint(vocab, (batch, context + 1), generator=generator)
    return tokens[:, :-1], tokens[:, 1:]


def drop_changes(recipe: Recipe) -> Recipe:
    """Return a recipe without changes."""
    return replace(recipe, config={**recipe.config, "change": {}})


def build_transplant(name: str, recipe: Recipe, vocab: int, build: Build, weights: "dict[str, Tensor]") -> "Decoder":
    """Build the decoder of a recipe with the given weights, then apply the recipe's changes."""
    from gptlab.training.build import apply_changes

    decoder = build(drop_changes(recipe), vocab)
    try:
        # into the decoder without changes, which then act on these very weights
        decoder.load_state_dict(weights)
    except RuntimeError as error:
        # torch lists what does not fit after tabs; the first of it is enough
        line = " ".join(str(error).split("\n\t")[1].split()) if "\n\t" in str(error) else str(error)
        raise Refused(
            f"{name}: the weights do not fit: {line[:160]}; change what has the same parameters, "
            "or say like=<run> beside study.run=<run>, so that the arms are of its recipe"
        ) from error
    return apply_changes(recipe, decoder).eval()


def make_forward_pass(decoder: "Decoder", tokens: "Tensor") -> Callable[[], None]:
    """Return a forward pass to be timed."""
    import torch

    def run_pass() -> None:
        with torch.inference_mode():
            decoder.forward(tokens)

    return run_pass


def measure_distances(a: "Tensor", b: "Tensor") -> dict[str, float]:
    """Return the distances of two tensors of logits (B, T, V), in double precision."""
    a, b = a.double(), b.double()
    absolute = (a - b).abs()
    # softmax is blind to what is added to all logits of a token
    centred = (a - b) - (a - b).mean(-1, keepdim=True)
    p, q = a.log_softmax(-1), b.log_softmax(-1)
    metrics = {
        "RMSE": absolute.square().mean().sqrt(),
        "MAD": absolute.mean(),
        "SD": absolute.std(correction=0),
        "% first greater": 100 * (a > b).double().mean(),
        "% ties": 100 * (a == b).double().mean(),
        "RMSE/std": absolute.square().mean().sqrt() / a.std(correction=0),
        "RMSE/std, centred": centred.square().mean().sqrt() / (a - a.mean(-1, keepdim=True)).std(correction=0),
        "KL": (p.exp() * (p - q)).sum(-1).mean(),
        "top-1 alike": (a.argmax(-1) == b.argmax(-1)).double().mean(),
    }
    return {name: value.item() for name, value in metrics.items()}
