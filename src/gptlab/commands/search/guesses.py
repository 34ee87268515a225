"""Find what the shapes of a checkpoint do not tell, from examples: tokens, and the original's logits for them.

Not told are: how many heads share a width; whether square matrices lie as (out, in) or as (in, out); whether q, k and v
are packed one after the other or head by head; which features rope pairs, and its theta; the activation; the epsilon.
Every guess is built and tried. Structure first, the weak ones from the best, and again until nothing changes.

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

from gptlab.commands.search.layout import complete_layout, holds_qkv
from gptlab.commands.search.outline import Outline
from gptlab.config.factory import locate, read_knobs
from gptlab.config.recipe import Recipe
from gptlab.console.progress import delayed_progress
from gptlab.errors import Refused
from gptlab.training.build import build_on_meta
from gptlab.weights.pretrained.mapping import Mapping, Shapes, apply_mapping

if TYPE_CHECKING:
    from torch import Tensor

    from gptlab.model.decoder import Decoder

STRUCTURE = ("heads", "squares", "packing", "pairs", "theta")
WEAK = ("activation", "eps")
THETAS = (1e4, 5e5, 1e6)
"""RoFormer's, Llama 3's, Qwen2's; and the recipe's."""
EPSILONS = (1e-5, 1e-6, 1e-12)
"""GPT-2's, Llama's, BERT's; and the recipe's."""
CLEARLY_FARTHER = 10
"""How many times farther the second best must be."""


@dataclass(frozen=True)
class Guess:
    """A reading of a checkpoint; None where the decoder has no such thing."""

    heads: int
    squares: str  # alike: they lie as the matrices whose shape tells; turned: the other way
    packing: str  # of q, k, v: blocks, or by head
    pairs: str  # of rope: halves, or neighbours
    theta: float | None
    activation: str | None
    eps: float | None


@dataclass(frozen=True)
class ScoredGuess:
    """A guess, and its distance from the examples: max |difference|, and the root mean square over their deviation."""

    guess: Guess
    distance: float
    rmse: float


class Search:
    """Tries guesses on inputs (N, T) and outputs (N, T, vocab) of the original.

    `known`: taken from the recipe as it is.
    """

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
        self.first, self.axes = self._make_axes()
        if unknown := {*known} - {*self.axes}:
            raise Refused(f"--known {', '.join(unknown)}: nothing of that name is searched; {', '.join(self.axes)} are")
        # what is known keeps one value, so that no guess differs in it
        self.axes |= {name: [getattr(self.first, name)] for name in known}
        self.scores: dict[Guess, ScoredGuess | None] = {}
        self.tried: list[tuple[Mapping, dict[str, Any]]] = []
        self.misfit = Refused("none was asked")

    def _make_axes(self) -> tuple[Guess, dict[str, list[Any]]]:
        """Return the guess that the recipe is, and what else each of its parts may be."""
        config = self.recipe.config
        theta, eps = config["position"].get("theta"), config["norm"].get("eps")
        activation, heads = config["mlp"].get("activation"), config["model"]["heads"]
        first = Guess(
            heads=heads,
            squares="alike",
            packing="blocks",
            pairs="halves",
            theta=theta,
            activation=activation,
            eps=eps,
        )
        kinds = ()
        if activation:  # those that the mlp's class takes
            kinds = get_args(read_knobs(locate(config["mlp"]["_target_"], "mlp"))["activation"].annotation)
        is_packed = any(holds_qkv(entry.to) for entry in self.mapping.entries)
        return first, {
            "heads": _put_first(heads, self.outline.possible_heads()),
            "squares": ["alike", "turned"],
            "packing": ["blocks", "by head"] if is_packed else ["blocks"],
            "pairs": ["halves", "neighbours"] if theta else ["halves"],
            "theta": _put_first(theta, THETAS) if theta else [None],
            "activation": _put_first(activation, kinds),
            "eps": _put_first(eps, EPSILONS) if eps else [None],
        }

    def rank_guesses(self) -> list[ScoredGuess]:
        """Return all guesses that were tried, the nearest first."""
        best, before = self.first, None
        with delayed_progress("asking every guess") as progress:
            self.score_guess(best)
            # group by group: all at once would be the product of both, and weak parts show only in the right structure
            while best != before:
                before = best
                for names in (STRUCTURE, WEAK):
                    for values in product(*(self.axes[name] for name in names)):
                        self.score_guess(replace(best, **dict(zip(names, values, strict=True))))
                        progress.advance()
                    best = self._sort_scores()[0].guess
        return self._sort_scores()

    def _sort_scores(self) -> list[ScoredGuess]:
        fits = [score for score in self.scores.values() if score is not None]
        if not fits:
            raise Refused(f"no guess fits the shapes of the file: {self.misfit}")
        return sorted(fits, key=lambda score: score.distance)

    def score_guess(self, guess: Guess) -> ScoredGuess | None:
        """Score a guess; None if the shapes of the file do not allow it, or another guess says the same."""
        if guess not in self.scores:
            try:
                self.scores[guess] = self._try_guess(guess)
            except Refused as refused:
                self.misfit, self.scores[guess] = refused, None
        return self.scores[guess]

    def _try_guess(self, guess: Guess) -> ScoredGuess | None:
        decoder = build_on_meta(self.make_recipe(guess), self.outline.vocab)
        wanted = {name: tuple(one.shape) for name, one in decoder.named_parameters()}  # a tied head has no name here
        mapping, overrides = self.complete_mapping(guess, wanted), self.make_overrides(guess)
        # another spelling of the same reading would come second at the same distance, and choose_winner refuse both
        if (mapping, overrides) in self.tried:
            return None
        self.tried.append((mapping, overrides))
        state = apply_mapping(mapping, self.source, wanted)
        state |= {name: state["embedding.weight"] for name in decoder.state_dict() if name not in wanted}
        decoder.load_state_dict({name: one.to(self.outputs.dtype) for name, one in state.items()}, assign=True)
        return ScoredGuess(guess, *self._measure_difference(decoder))

    def _measure_difference(self, decoder: "Decoder") -> tuple[float, float]:
        import torch

        with torch.no_grad():
            logits = decoder.eval()(self.inputs).logits
        assert logits is not None
        difference = (logits - self.outputs).double()
        distance = difference.abs().max().item()
        rmse = (difference.square().mean().sqrt() / self.outputs.double().std()).item()
        # NaN would sort anywhere
        return (distance, rmse) if math.isfinite(distance) else (math.inf, math.inf)

    def make_recipe(self, guess: Guess) -> Recipe:
        """Return the recipe of a guess."""
        config = self.recipe.config
        for key, value in self.make_overrides(guess).items():
            slot, knob = key.split(".")
            config = config | {slot: config[slot] | {knob: value}}
        return replace(self.recipe, config=config)

    def make_overrides(self, guess: Guess) -> dict[str, Any]:
        """Return a guess as overrides of train.py."""
        knobs = {"position.theta": guess.theta, "mlp.activation": guess.activation, "norm.eps": guess.eps}
        return {**self.outline.split_heads(guess.heads), **{key: one for key, one in knobs.items() if one is not None}}

    def solve_mapping(self, guess: Guess) -> Mapping:
        """Return the mapping as a guess reads it."""
        decoder = build_on_meta(self.make_recipe(guess), self.outline.vocab)
        return self.complete_mapping(guess, {name: tuple(one.shape) for name, one in decoder.named_parameters()})

    def complete_mapping(self, guess: Guess, wanted: Shapes) -> Mapping:
        """Return the mapping with everything said that it left open."""
        head = self.outline.queries // guess.heads
        return complete_layout(
            self.mapping,
            {name: tuple(one.shape) for name, one in self.source.items()},
            wanted,
            head,
            # with one head, or one pair a head, both layouts are the same: it is spelled one way
            opposite=guess.squares == "turned",
            by_head=guess.packing == "by head" and guess.heads > 1,
            interleaved=guess.pairs == "neighbours" and head > 2,
        )


def _put_first(first: Any, others: Any) -> list[Any]:
    return [first, *(other for other in others if other != first)]


def choose_winner(ranked: list[ScoredGuess], largest: float) -> Guess:
    """Return the nearest guess, if it is near enough and clearly the nearest.

    `largest`: max |logit| of the examples.
    """
    best, allowed = ranked[0], 1e-5 * largest + 1e-3
    if not best.distance <= allowed:
        raise Refused(
            f"no guess says what the examples say: the nearest is {best.distance:.2g} away, and {allowed:.2g} is "
            "allowed; what is not searched (wiring, scale, a softcap, the mapping's names) must be told"
        )
    alike = [score for score in ranked[1:] if score.distance < CLEARLY_FARTHER * best.distance]
    if alike:
        differing: set[str] = set()
        for score in alike:
            differing |= {*list_differences(best.guess, score.guess)}
        names = ", ".join(sorted(differing))
        raise Refused(
            f"not distinguishable by these examples: {names} (the nearest is {best.distance:.2g} away, the next "
            f"{alike[0].distance:.2g}); give outputs in float64, or --known what you know"
        )
    return best.guess


def list_differences(guess: Guess, other: Guess) -> Iterator[str]:
    """Yield the names in which two guesses differ."""
    return (axis.name for axis in fields(Guess) if getattr(guess, axis.name) != getattr(other, axis.name))
