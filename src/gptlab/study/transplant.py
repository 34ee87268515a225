"""The same weights under one change: how far do the logits move? Asked before anything is trained anew.

a are the logits of the first arm, b those of another, over all tokens of a batch:

    RMSE^2 = mean (a - b)^2 = MAD^2 + SD^2        MAD, SD: mean and deviation of |a - b|

softmax forgets what all logits of a token share, so `RMSE/std, centred` takes each token's mean off; KL is of softmax a
to softmax b, in nats. Random weights answer for themselves alone: with tied N(0, 1) embeddings a net copies its token,
whatever is changed. A change that alters no logit is refused, as an experiment with epsilon once was not
(github.com/ravidcohen1/dle-assignment).
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from gptlab.ablation.measured import Row
from gptlab.ablation.turns import TWIN
from gptlab.recipe import Recipe
from gptlab.refused import Refused
from gptlab.study import Build, Study, vocabulary

if TYPE_CHECKING:
    from torch import Tensor

    from gptlab.decoder import Decoder


class Transplant(Study):
    """run: a run folder whose weights all arms take; null, those of init and seed. vocab: null is that of the recipe's
    text, which is then read; else tokens are random. batch: sequences of one context. follow_up: train asks of the same
    arms what training them anew makes of the change, under every seed."""

    def __init__(
        self,
        *,
        run: str | None = None,
        vocab: int | None = None,
        batch: int = 4,
        rounds: int = 12,
        follow_up: Literal["train"] | None = None,
    ) -> None:
        for name, least, value in (("vocab", 2, vocab), ("batch", 1, batch), ("rounds", 1, rounds)):
            if value is not None and value < least:
                raise ValueError(f"{name}={value} is less than {least}; give {least} or more")
        self.run, self.vocab, self.batch, self.rounds = run, vocab, batch, rounds
        self.follow_up = follow_up

    def check(self, arms: dict[str, Recipe]) -> None:
        if len(arms) < 2:
            raise Refused("study=transplant compares arms, and there is one; change something: norm.eps=1e-6,1e-4")
        if len({recipe.settings.model.context for recipe in arms.values()}) > 1:
            raise Refused("study=transplant gives all arms the same tokens; leave model.context alone")

    def __call__(self, arms: dict[str, Recipe], block: int, build: Build, folder: Path) -> list[Row]:
        import torch

        from gptlab.factory import factory
        from gptlab.timing import turns

        first = next(iter(arms.values()))
        torch.set_num_threads(factory(first.config["trainer"], "trainer")().threads)
        vocab = vocabulary(first, self.vocab)
        weights = self.weights(first, vocab, build)
        decoders = {name: transplanted(name, recipe, vocab, build, weights) for name, recipe in arms.items()}
        tokens, targets = self.batches(first, vocab, block)
        with torch.inference_mode():
            logits = {name: cast(torch.Tensor, one.forward(tokens).logits) for name, one in decoders.items()}
            losses = {name: cast(torch.Tensor, one.forward(tokens, targets).loss) for name, one in decoders.items()}
        base, *others = arms
        rows = []
        for name in others:
            if torch.equal(logits[name], logits[base]):
                raise Refused(f"{name} changes no logit of {base}: it has no effect on these weights; leave it out")
            told = {**distances(logits[base], logits[name]), "loss change": (losses[name] - losses[base]).item()}
            rows += [Row(name, block, metric, value) for metric, value in told.items()]
        acts: dict[str, Callable[[], None]] = {name: passing(one, tokens) for name, one in decoders.items()}
        times = turns({**acts, TWIN: acts[base]}, float("inf"), self.rounds)
        return [*(Row(name, block, "ms/pass", times[name]) for name in (*arms, TWIN)), *rows]

    def weights(self, recipe: Recipe, vocab: int, build: Build) -> "dict[str, Tensor]":
        """The first arm's, by init or from a run."""
        if self.run is None:
            return build(unchanged(recipe), vocab).state_dict()
        from gptlab.change import merge
        from gptlab.loading import load

        return merge(load(self.run)[0]).state_dict()

    def batches(self, recipe: Recipe, vocab: int, block: int) -> "tuple[Tensor, Tensor]":
        """Tokens and their targets, (batch, context): of the validation text, or random."""
        import torch

        context = recipe.settings.model.context
        if self.vocab is None:
            from gptlab.reading import read_corpus

            inputs, targets = read_corpus(recipe).windows(context, self.batch * context)
            return torch.from_numpy(inputs[0 : self.batch]), torch.from_numpy(targets[0 : self.batch])
        random = torch.Generator().manual_seed(block)
        both = torch.randint(vocab, (self.batch, context + 1), generator=random)
        return both[:, :-1], both[:, 1:]


def unchanged(recipe: Recipe) -> Recipe:
    """A recipe without changes."""
    return replace(recipe, config={**recipe.config, "change": {}})


def transplanted(name: str, recipe: Recipe, vocab: int, build: Build, weights: "dict[str, Tensor]") -> "Decoder":
    """The decoder of a recipe with another's weights, all of them, and then with its changes."""
    from gptlab.building import changed

    decoder = build(unchanged(recipe), vocab)
    try:
        decoder.load_state_dict(weights)
    except RuntimeError as error:
        line = " ".join(str(error).split("\n\t")[1].split()) if "\n\t" in str(error) else str(error)
        raise Refused(f"{name}: the weights do not fit: {line[:160]}; change what has the same parameters") from error
    return changed(recipe, decoder).eval()


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
