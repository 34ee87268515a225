"""Time of a forward pass over each size: one is changed at a time, all points are timed interleaved.

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
from gptlab.stats.labels import ArmValues, label_arm, read_point
from gptlab.stats.measurements import Row
from gptlab.stats.timing import AA_CONTROL
from gptlab.study import Build, Study, get_vocab_size

if TYPE_CHECKING:
    from gptlab.model.decoder import Decoder

SIZES = ("length", "vocab", "width", "head", "head_shared", "heads", "layers", "hidden", "batch")
FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
BASE = "baseline"


class Point(NamedTuple):
    """A point of a sweep: the decoder of a recipe and a vocabulary, on `batch` sequences of one context.

    values  (size, value), after the arm's name where there are several; none for the baseline
    """

    recipe: Recipe
    vocab: int
    batch: int
    values: ArmValues = ()


class Latency(Study):
    """Time forward passes while one size at a time is swept.

    sweeps  values by size, the recipe's own always among them; null sweeps all sizes by FACTORS
    batch   sequences of one context, where it is not swept
    vocab   vocabulary size; null is that of the recipe's text
    rounds  rounds in which all points are timed, interleaved
    """

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
        from gptlab.training.build import build_on_meta

        for name, recipe in arms.items():
            for point_name, point in self.make_points(recipe).items():
                try:
                    # every point is built without memory first: a sweep must not end at its last size
                    build_on_meta(point.recipe, point.vocab)
                except ValueError as error:
                    reason = str(error).splitlines()[0]
                    raise Refused(
                        f"{name}: {point_name} does not fit: {reason}; choose others by study.sweeps="
                    ) from error

    def __call__(self, arms: dict[str, Recipe], block: int, build: Build, folder: Path) -> list[Row]:
        from gptlab.study.tools.timing import time_interleaved

        points: dict[str, Point] = {}
        for name, recipe in arms.items():
            prefix = (("", name.replace("/", ":")),) if len(arms) > 1 else ()
            for point_name, point in self.make_points(recipe).items():
                label = label_arm((*prefix, *(point.values or (("", point_name),))))
                points[label] = point._replace(values=(*prefix, *point.values) if point.values else ())
        decoders: dict[Any, Decoder] = {}
        for point in points.values():  # those that differ in nothing but the batch are one
            key = (point.recipe.hash, point.vocab)
            decoders[key] = decoders[key] if key in decoders else build(point.recipe, point.vocab).eval()
        passes = {
            name: make_forward_pass(decoders[point.recipe.hash, point.vocab], point) for name, point in points.items()
        }
        times = time_interleaved({**passes, AA_CONTROL: passes[next(iter(passes))]}, float("inf"), self.rounds)
        values = {name: point.values for name, point in points.items()}
        rows = []
        for name, ms in times.items():  # the A/A control is no point of a sweep
            rows.append(Row(name, block, "ms/pass", ms, arm_values=values.get(name, ())))
        for name, point in points.items():
            flop_shares = count_flop_shares(decoders[point.recipe.hash, point.vocab], point)
            for metric, value in flop_shares.items():
                rows.append(Row(name, block, metric, value, arm_values=point.values))
        sizes = {name: size_point for name in points if (size_point := read_point(values[name]))}
        slopes = measure_elasticities(times, sizes, block)
        return rows + [Row(sweep, block, metric, value) for sweep, metric, value in slopes]

    def make_points(self, recipe: Recipe) -> dict[str, Point]:
        """Return all points of one recipe by name, the baseline first."""
        from gptlab.training.build import build_on_meta

        base = Point(recipe, get_vocab_size(recipe, self.vocab), self.batch)
        own_sizes = read_sizes(build_on_meta(recipe, base.vocab), base)
        points = {BASE: base}
        for size in self.sweeps or SIZES:
            swept = self.sweeps[size] if self.sweeps else list_default_values(own_sizes, size)
            values = sorted({*swept, own_sizes[size]})
            # two points have a slope and no curvature
            if len(values) < 3:
                raise Refused(f"study.sweeps: {size} has the values {values}; three show a slope and a bend, give more")
            for value in values:
                pair = (size, str(value))
                points[label_arm((pair,))] = change_size(base, own_sizes, size, value)._replace(values=(pair,))
        return points


def read_sizes(decoder: "Decoder", point: Point) -> dict[str, int]:
    """Return the sizes of a decoder, by the names of SIZES."""
    shape = decoder.shape
    return {
        "length": shape.context,
        "vocab": shape.vocab,
        "width": shape.width,
        "head": shape.head,
        "head_shared": shape.head,
        "heads": shape.heads,
        "layers": shape.layers,
        "hidden": decoder.layers[0].mlp.hidden,
        "batch": point.batch,
    }


def list_default_values(own_sizes: dict[str, int], size: str) -> list[int]:
    """Return a size's default values: those of FACTORS that are whole, and for heads that share a width, divide it."""
    values = [int(own_sizes[size] * factor) for factor in FACTORS if (own_sizes[size] * factor).is_integer()]
    return [value for value in values if size != "head_shared" or own_sizes["heads"] * own_sizes["head"] % value == 0]


def change_size(point: Point, own_sizes: dict[str, int], size: str, value: int) -> Point:
    """Return a point with one size changed and all others held, those that would follow it too."""
    recipe = point.recipe
    if value == own_sizes[size]:
        return point
    if size == "batch":
        return point._replace(batch=value)
    if size == "vocab":
        return Point(set_values(recipe, vocab_multiple=1), value, point.batch)  # else rows are rounded up
    # written out, since a head that is null follows the width and the number of heads
    knobs: dict[str, int] = {"model__head": own_sizes["head"]}
    if size == "hidden":
        knobs[find_hidden_knob(recipe)] = value
    elif size == "head_shared":
        total = own_sizes["heads"] * own_sizes["head"]
        if total % value:
            raise Refused(f"study.sweeps: head_shared={value} does not divide heads x head = {total}; give a divisor")
        knobs |= {"model__head": value, "model__heads": total // value}
    else:
        knobs["model__context" if size == "length" else f"model__{size}"] = value
    if size == "width":
        # hidden follows the width where it is null; held, only one size changes
        knobs[find_hidden_knob(recipe)] = own_sizes["hidden"]
    if recipe.config["attention"].get("kv_heads") == own_sizes["heads"]:  # as many, so that they follow
        knobs["attention__kv_heads"] = knobs.get("model__heads", own_sizes["heads"])
    return point._replace(recipe=set_values(recipe, **knobs))


def find_hidden_knob(recipe: Recipe) -> str:
    """Return the path of the knob of the MLP's width."""
    node, path = recipe.config["mlp"], "mlp"
    if "hidden" not in node and "expert" in node:
        node, path = node["expert"], "mlp__expert"
    if "hidden" not in node:
        raise Refused(
            "study=latency: this mlp has no knob `hidden`, so width and hidden cannot be swept apart; name others"
        )
    return f"{path}__hidden"


def count_flop_shares(decoder: "Decoder", point: Point) -> dict[str, float]:
    """Return the FLOPs of one pass, and the shares of attention, its scores, MLPs, and all else (the readout)."""
    from torch import nn

    from gptlab.model.costs import count_forward_flops

    def count_linear_weights(part: nn.Module) -> int:
        return sum(linear.weight.numel() for linear in part.modules() if isinstance(linear, nn.Linear))

    length = point.recipe.settings.model.context
    total = count_forward_flops(decoder, length)
    layers = decoder.applied_layers
    scores = sum(block.attention.flops(length) for block in layers)
    attention = scores + 2 * length * sum(count_linear_weights(block.attention) for block in layers)
    # a mixture's token meets its own experts alone
    mlp = 2 * length * sum(count_linear_weights(block.mlp) - block.mlp.inactive_weights() for block in layers)
    flops = {"attention": attention, "scores": scores, "mlp": mlp, "readout": total - attention - mlp}
    return {
        "MFLOPs/pass": point.batch * total / 1e6,
        **{f"{name} share": count / total for name, count in flops.items()},
    }


def make_forward_pass(decoder: "Decoder", point: Point) -> Any:
    """Return a forward pass over random tokens, to be timed at its trainer's device and precision."""
    import torch

    from gptlab.study.tools.timing import Placement

    placement, context = Placement(point.recipe), point.recipe.settings.model.context
    # random tokens: a pass takes the same time whatever it reads
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(point.vocab, (point.batch, context), generator=generator).to(placement.device)
    decoder.to(placement.device)

    def run_pass() -> None:
        with torch.inference_mode(), placement.numerics():
            decoder.forward(tokens)

    return run_pass
