"""What shapes do not tell of a checkpoint, found from examples: tokens, and the logits that the original gave for them.

Not told are: how many heads share a width; whether square matrices lie as (out, in) or as (in, out); whether q, k and v
are packed one after the other or head by head; which features rope pairs, and its theta; the activation; the epsilon.
Every guess is built and asked. Structure first, the weak ones from the best, and again until nothing changes.

The measure is max |difference| of logits: with half the heads the correlation is still 0.9999 and every likeliest token
right. It is computed in the type of the examples: float32 cannot tell epsilons of 1e-5 and 1e-6 apart where activations
are of size 1, float64 can (2026-11). A guess wins if it is within 1e-5 max |logit| + 1e-3, and ten times nearer than
any other.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import TYPE_CHECKING, Any, get_args

from gptlab.build import sketch
from gptlab.commands.search.layout import laid, packed
from gptlab.commands.search.outline import Outline
from gptlab.config.factory import knobs, locate
from gptlab.config.recipe import Recipe
from gptlab.console.progress import patience
from gptlab.errors import Refused
from gptlab.weights.pretrained.mapping import Mapping, Shapes, apply

if TYPE_CHECKING:
    from torch import Tensor

    from gptlab.model.decoder import Decoder

STRUCTURE = ("heads", "squares", "packing", "pairs", "theta")
WEAK = ("activation", "eps")
THETAS = (1e4, 5e5, 1e6)
"""RoFormer's, Llama 3's, Qwen2's; and the recipe's."""
EPSILONS = (1e-5, 1e-6, 1e-12)
"""GPT-2's, Llama's, BERT's; and the recipe's."""
APART = 10
"""How many times farther the second best must be."""


@dataclass(frozen=True)
class Guess:
    """What a checkpoint might be; None where the decoder has no such thing."""

    heads: int
    squares: str  # alike: they lie as the matrices whose shape tells; turned: the other way
    packing: str  # of q, k, v: blocks, or by head
    pairs: str  # of rope: halves, or neighbours
    theta: float | None
    activation: str | None
    eps: float | None


@dataclass(frozen=True)
class Scored:
    """A guess, and how far it is from the examples: max |difference|, and the root mean square over their deviation."""

    guess: Guess
    far: float
    rmse: float


class Search:
    """inputs (N, T) and outputs (N, T, vocab) are what the original was given and gave. `known` names what is taken
    from the recipe as it is."""

    def __init__(
        self,
        recipe: Recipe,
        mapping: Mapping,
        source: "dict[str, Tensor]",
        inputs: "Tensor",
        outputs: "Tensor",
        known: tuple[str, ...] = (),
    ) -> None:
        self.recipe, self.mapping, self.source = recipe, mapping, source
        self.inputs, self.outputs = inputs, outputs
        shapes = {name: tuple(one.shape) for name, one in source.items()}
        self.outline = Outline(mapping, shapes)
        self.first, self.axes = self._axes()
        if unknown := {*known} - {*self.axes}:
            raise Refused(f"--known {', '.join(unknown)}: nothing of that name is searched; {', '.join(self.axes)} are")
        self.axes |= {name: [getattr(self.first, name)] for name in known}
        self.done: dict[Guess, Scored | None] = {}
        self.asked: list[tuple[Mapping, dict[str, Any]]] = []
        self.misfit = Refused("none was asked")

    def _axes(self) -> tuple[Guess, dict[str, list[Any]]]:
        """The guess that the recipe is, and what else each of its parts may be."""
        config = self.recipe.config
        theta, eps, activation = (
            config[slot].get(knob) for slot, knob in (("position", "theta"), ("norm", "eps"), ("mlp", "activation"))
        )
        heads = config["model"]["heads"]
        first = Guess(heads, "alike", "blocks", "halves", theta, activation, eps)
        kinds = get_args(knobs(locate(config["mlp"]["_target_"], "mlp"))["activation"].annotation) if activation else ()
        return first, {
            "heads": _first(heads, self.outline.heads()),
            "squares": ["alike", "turned"],
            "packing": ["blocks", *(["by head"] if any(packed(one.to) for one in self.mapping.entries) else [])],
            "pairs": ["halves", *(["neighbours"] if theta else [])],
            "theta": _first(theta, THETAS) if theta else [None],
            "activation": _first(activation, kinds),
            "eps": _first(eps, EPSILONS) if eps else [None],
        }

    def ranked(self) -> list[Scored]:
        """All guesses that were asked, the nearest first."""
        best, before = self.first, None
        with patience("asking every guess") as shown:
            self.score(best)
            while best != before:
                before = best
                for names in (STRUCTURE, WEAK):
                    for values in product(*(self.axes[name] for name in names)):
                        self.score(replace(best, **dict(zip(names, values, strict=True))))
                        shown.moved()
                    best = self._sorted()[0].guess
        return self._sorted()

    def _sorted(self) -> list[Scored]:
        fits = [one for one in self.done.values() if one is not None]
        if not fits:
            raise Refused(f"no guess fits the shapes of the file: {self.misfit}")
        return sorted(fits, key=lambda one: one.far)

    def score(self, guess: Guess) -> Scored | None:
        """How far a guess is; None if the shapes of the file do not allow it, or another guess says the same."""
        if guess not in self.done:
            try:
                self.done[guess] = self._asked(guess)
            except Refused as refused:
                self.misfit, self.done[guess] = refused, None
        return self.done[guess]

    def _asked(self, guess: Guess) -> Scored | None:
        made = sketch(self.told(guess), self.outline.vocab)
        wanted = {name: tuple(one.shape) for name, one in made.named_parameters()}  # a tied head has no name here
        mapping, told = self.mapped(guess, wanted), self.overrides(guess)
        if (mapping, told) in self.asked:
            return None
        self.asked.append((mapping, told))
        state = apply(mapping, self.source, wanted)
        state |= {name: state["embedding.weight"] for name in made.state_dict() if name not in wanted}
        made.load_state_dict({name: one.to(self.outputs.dtype) for name, one in state.items()}, assign=True)
        return Scored(guess, *self._difference(made))

    def _difference(self, made: "Decoder") -> tuple[float, float]:
        import torch

        with torch.no_grad():
            logits = made.eval()(self.inputs).logits
        assert logits is not None
        difference = (logits - self.outputs).double()
        far = difference.abs().max().item()
        rmse = (difference.square().mean().sqrt() / self.outputs.double().std()).item()
        return (far, rmse) if math.isfinite(far) else (math.inf, math.inf)

    def told(self, guess: Guess) -> Recipe:
        """The recipe of a guess."""
        config = self.recipe.config
        for key, value in self.overrides(guess).items():
            slot, knob = key.split(".")
            config = config | {slot: config[slot] | {knob: value}}
        return replace(self.recipe, config=config)

    def overrides(self, guess: Guess) -> dict[str, Any]:
        """What a guess is in the words of train.py."""
        told = {"position.theta": guess.theta, "mlp.activation": guess.activation, "norm.eps": guess.eps}
        return {**self.outline.split(guess.heads), **{key: one for key, one in told.items() if one is not None}}

    def solved(self, guess: Guess) -> Mapping:
        """The mapping as a guess reads it."""
        made = sketch(self.told(guess), self.outline.vocab)
        return self.mapped(guess, {name: tuple(one.shape) for name, one in made.named_parameters()})

    def mapped(self, guess: Guess, wanted: Shapes) -> Mapping:
        """The mapping with everything said that it left open."""
        head = self.outline.queries // guess.heads
        return laid(
            self.mapping,
            {name: tuple(one.shape) for name, one in self.source.items()},
            wanted,
            head,
            opposite=guess.squares == "turned",
            by_head=guess.packing == "by head" and guess.heads > 1,
            interleaved=guess.pairs == "neighbours" and head > 2,
        )


def _first(one: Any, others: Any) -> list[Any]:
    return [one, *(other for other in others if other != one)]


def winner(ranked: list[Scored], largest: float) -> Guess:
    """The nearest guess, if it is near enough and clearly the nearest. `largest`: max |logit| of the examples."""
    best, allowed = ranked[0], 1e-5 * largest + 1e-3
    if not best.far <= allowed:
        raise Refused(
            f"no guess says what the examples say: the nearest is {best.far:.2g} away, and {allowed:.2g} is allowed; "
            "what is not searched (wiring, scale, a softcap, the mapping's names) must be told"
        )
    alike = [one for one in ranked[1:] if one.far < APART * best.far]
    if alike:
        names = ", ".join(sorted({name for one in alike for name in differing(best.guess, one.guess)}))
        raise Refused(
            f"not distinguishable by these examples: {names} (the nearest is {best.far:.2g} away, the next "
            f"{alike[0].far:.2g}); give outputs in float64, or --known what you know"
        )
    return best.guess


def differing(one: Guess, other: Guess) -> Iterator[str]:
    """In what two guesses differ."""
    return (axis.name for axis in fields(Guess) if getattr(one, axis.name) != getattr(other, axis.name))
