"""How the time of a forward pass follows each size: one is changed at a time, all points are timed in turn.

length batch vocab layers hidden   as they say; `hidden` is the MLP's width
width                              of the residual stream; heads, their width and `hidden` stay
head                               width of a head; as many heads, so that their total grows
head_shared                        width of a head; the total stays, so that heads get fewer
heads                              of the same width each, so that their total grows

Slopes in ms a unit cannot be compared between sizes. The elasticity can, d ln t / d ln x: 1 is proportional, 0 is free.
Its interval is a bootstrap over rounds in blocks, since neighbouring rounds are alike. A straight line and a parabola
are fitted to all rounds in parts of their median; a positive difference of their AIC says that the time is curved.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gptlab.config.recipe import Recipe, set_values
from gptlab.errors import Refused
from gptlab.stats.elasticity import measure_elasticities
from gptlab.stats.measurements import Row
from gptlab.stats.timing import AA_CONTROL
from gptlab.study import Build, Study, vocabulary

if TYPE_CHECKING:
    from gptlab.model.decoder import Decoder

SIZES = ("length", "vocab", "width", "head", "head_shared", "heads", "layers", "hidden", "batch")
FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
BASE = "baseline"


class Point(NamedTuple):
    """What is timed: a decoder of a recipe and a vocabulary, on a batch of one context each."""

    recipe: Recipe
    vocab: int
    batch: int


class Latency(Study):
    """sweeps: values by size, the recipe's own is always among them; null is all sizes at FACTORS. vocab: null is that
    of the recipe's text. batch: sequences of one context, where it is not swept."""

    def __init__(
        self,
        *,
        sweeps: dict[str, list[int]] | None = None,
        batch: int = 1,
        vocab: int | None = None,
        rounds: int = 12,
    ) -> None:
        for name, least, value in (("batch", 1, batch), ("vocab", 2, vocab), ("rounds", 1, rounds)):
            if value is not None and value < least:
                raise ValueError(f"{name}={value} is less than {least}; give {least} or more")
        for size, values in (sweeps or {}).items():
            if size not in SIZES:
                raise ValueError(f"sweeps={size} is no size; choose from {', '.join(SIZES)}")
            if not values or min(values) < 1:
                raise ValueError(f"sweeps={{{size}:{values}}} is no list of positive numbers; give some, [64,256]")
        self.sweeps, self.batch, self.vocab, self.rounds = sweeps, batch, vocab, rounds

    def check(self, arms: dict[str, Recipe]) -> None:
        from gptlab.build import build_on_meta

        for name, recipe in arms.items():
            for point, at in self.points(recipe).items():
                try:
                    build_on_meta(at.recipe, at.vocab)
                except ValueError as error:
                    told = str(error).splitlines()[0]
                    raise Refused(f"{name}: {point} does not fit: {told}; choose others by study.sweeps=") from error

    def __call__(self, arms: dict[str, Recipe], block: int, build: Build, folder: Path) -> list[Row]:
        from gptlab.study.tools.timing import turns

        points = {
            f"{name.replace('/', ':')} {point}" if len(arms) > 1 else point: at
            for name, recipe in arms.items()
            for point, at in self.points(recipe).items()
        }
        made: dict[Any, Decoder] = {}
        for at in points.values():  # those that differ in nothing but the batch are one
            key = (at.recipe.hash, at.vocab)
            made[key] = made[key] if key in made else build(at.recipe, at.vocab).eval()
        acts = {name: passing(made[at.recipe.hash, at.vocab], at) for name, at in points.items()}
        times = turns({**acts, AA_CONTROL: acts[next(iter(acts))]}, float("inf"), self.rounds)
        rows = [Row(name, block, "ms/pass", ms) for name, ms in times.items()]
        for name, at in points.items():
            told = shares(made[at.recipe.hash, at.vocab], at)
            rows += [Row(name, block, metric, value) for metric, value in told.items()]
        return rows + [Row(arm, block, metric, value) for arm, metric, value in measure_elasticities(times, block)]

    def points(self, recipe: Recipe) -> dict[str, Point]:
        """All that is timed of one recipe, by name, the baseline first."""
        from gptlab.build import build_on_meta

        base = Point(recipe, vocabulary(recipe, self.vocab), self.batch)
        own = sizes(build_on_meta(recipe, base.vocab), base)
        found = {BASE: base}
        for size in self.sweeps or SIZES:
            asked = self.sweeps[size] if self.sweeps else whole(own, size)
            values = sorted({*asked, own[size]})
            if len(values) < 3:
                raise Refused(f"study.sweeps: {size} has the values {values}; three show a slope and a bend, give more")
            found |= {f"{size}={value}": moved(base, own, size, value) for value in values}
        return found


def sizes(made: "Decoder", at: Point) -> dict[str, int]:
    """The sizes of a recipe's decoder."""
    shape = made.shape
    return {
        "length": shape.context,
        "vocab": shape.vocab,
        "width": shape.width,
        "head": shape.head,
        "head_shared": shape.head,
        "heads": shape.heads,
        "layers": shape.layers,
        "hidden": made.layers[0].mlp.hidden,
        "batch": at.batch,
    }


def whole(own: dict[str, int], size: str) -> list[int]:
    """A size's default values: those of FACTORS that are whole, and for heads that share a width, that divide it."""
    values = [int(own[size] * factor) for factor in FACTORS if (own[size] * factor).is_integer()]
    return [one for one in values if size != "head_shared" or own["heads"] * own["head"] % one == 0]


def moved(at: Point, own: dict[str, int], size: str, value: int) -> Point:
    """A point with one size changed and all others held, those that would follow it too."""
    recipe = at.recipe
    if value == own[size]:
        return at
    if size == "batch":
        return at._replace(batch=value)
    if size == "vocab":
        return Point(set_values(recipe, vocab_multiple=1), value, at.batch)
    knobs: dict[str, int] = {"model__head": own["head"]}
    if size == "hidden":
        knobs[hidden(recipe)] = value
    elif size == "head_shared":
        total = own["heads"] * own["head"]
        if total % value:
            raise Refused(f"study.sweeps: head_shared={value} does not divide heads x head = {total}; give a divisor")
        knobs |= {"model__head": value, "model__heads": total // value}
    else:
        knobs["model__context" if size == "length" else f"model__{size}"] = value
    if size == "width":
        knobs[hidden(recipe)] = own["hidden"]
    if recipe.config["attention"].get("kv_heads") == own["heads"]:  # as many, so that they follow
        knobs["attention__kv_heads"] = knobs.get("model__heads", own["heads"])
    return at._replace(recipe=set_values(recipe, **knobs))


def hidden(recipe: Recipe) -> str:
    """The knob of the MLP's width."""
    node, path = recipe.config["mlp"], "mlp"
    if "expert" in node:
        node, path = node["expert"], "mlp__expert"
    if "hidden" not in node:
        raise Refused(
            "study=latency: this mlp has no knob `hidden`, so width and hidden cannot be swept apart; name others"
        )
    return f"{path}__hidden"


def shares(made: "Decoder", at: Point) -> dict[str, float]:
    """FLOPs of one pass, and the parts of attention (its scores too), of MLPs and of all else, the readout."""
    from torch import nn

    def weights(part: nn.Module) -> int:
        return sum(one.weight.numel() for one in part.modules() if isinstance(one, nn.Linear))

    length = at.recipe.settings.model.context
    total = made.flops(length)
    pairs = sum(b.attention.pairs(length) * b.attention.pair_flops() for b in made.layers)
    attention = pairs + 2 * length * sum(weights(block.attention) for block in made.layers)
    mlp = 2 * length * sum(weights(block.mlp) - block.mlp.inactive_weights() for block in made.layers)
    found = {"attention": attention, "scores": pairs, "mlp": mlp, "readout": total - attention - mlp}
    return {"MFLOPs/pass": at.batch * total / 1e6, **{f"{name} share": one / total for name, one in found.items()}}


def passing(made: "Decoder", at: Point) -> Any:
    """A forward pass over random tokens, to be timed at its trainer's device and precision."""
    import torch

    from gptlab.study.tools.timing import Place

    place, context = Place(at.recipe), at.recipe.settings.model.context
    draws = torch.Generator().manual_seed(0)
    tokens = torch.randint(at.vocab, (at.batch, context), generator=draws).to(place.device)
    made.to(place.device)

    def act() -> None:
        with torch.inference_mode(), place.numerics():
            made.forward(tokens)

    return act
