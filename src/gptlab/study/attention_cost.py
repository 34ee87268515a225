"""What length costs: attention alone and a whole block, over the number of tokens T, widths held.

scores    softmax(q k^T) v of all heads, no Linear: 4 T^2 H D FLOPs, of which a causal mask shows half
block     the recipe's first block: its Linears and norms too, which grow with T alone

local slope    of ln t over ln T, from the length before to this one: 1 grows with T, 2 with its square
score bytes    H T^2 numbers, which the plain formula writes out, and sdpa does not

A block of MHA with an MLP of 4 widths meets as many FLOPs in scores as in Linears at T = 6 widths (24 T d^2 = 4 T^2 d);
before that its slope is nearer to 1. Slopes are noisy where scores outgrow a cache. FLOPs are of what is computed.
"""

import math
import statistics
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gptlab.config.recipe import Recipe, set_values
from gptlab.errors import Refused
from gptlab.stats.measurements import Row
from gptlab.stats.timing import AA_CONTROL
from gptlab.study import Build, Study

if TYPE_CHECKING:
    from gptlab.model.decoder import Decoder
    from gptlab.study.tools.timing import Place

VOCAB = 2
"""No token is read."""


class AttentionCost(Study):
    """lengths: ascending, two or more. kernel: which computes attention, in the block too."""

    def __init__(self, *, lengths: list[int], kernel: Literal["naive", "sdpa"] = "naive", rounds: int = 12) -> None:
        if len(lengths) < 2 or min(lengths) < 1 or lengths != sorted({*lengths}):
            raise ValueError(f"lengths={lengths} does not rise from 1 or more, twice or more; try [64,128,256]")
        if rounds < 1:
            raise ValueError(f"rounds={rounds} is less than 1; give 1 or more")
        self.lengths, self.kernel, self.rounds = lengths, kernel, rounds

    def longest(self, recipe: Recipe) -> Recipe:
        """The recipe with the longest of the lengths as its context."""
        return set_values(recipe, model__context=self.lengths[-1])

    def check(self, arms: dict[str, Recipe]) -> None:
        from gptlab.build import build_on_meta

        for name, recipe in arms.items():
            first = build_on_meta(self.longest(recipe), VOCAB).layers[0].attention
            if not hasattr(first, "kv_heads"):
                raise Refused(
                    f"{name}: study=attention_cost counts scores of softmax, which {type(first).__name__} "
                    "in the first layer has not; take attention=mha, gqa, mqa or swa, or study=latency"
                )

    def __call__(self, arms: dict[str, Recipe], block: int, build: Build, folder: Path) -> list[Row]:
        from gptlab.study.tools.timing import Place, turns

        acts: dict[str, Callable[[], None]] = {}
        rows = []
        for name, recipe in arms.items():
            prefix = f"{name.replace('/', ':')} " if len(arms) > 1 else ""
            place = Place(recipe)
            decoder = build(self.longest(recipe), VOCAB).to(place.device).eval()
            for kind, act in (("scores", attending), ("block", passing)):
                for length in self.lengths:
                    point = f"{prefix}{kind} length={length}"
                    acts[point] = act(decoder, length, place, self.kernel)
                    told = counts(decoder, kind, length)
                    rows += [Row(point, block, metric, value) for metric, value in told.items()]
        times = turns({**acts, AA_CONTROL: acts[next(iter(acts))]}, float("inf"), self.rounds)
        timed = [Row(point, block, "ms", ms) for point, ms in times.items()]
        return timed + rows + [Row(point, block, "local slope", slope) for point, slope in slopes(times).items()]


def counts(decoder: "Decoder", kind: str, length: int) -> dict[str, float]:
    """FLOPs of one pass where every score is computed, and bytes of a matrix of them in 32 bits."""
    from gptlab.model.mlp import weights

    first = decoder.layers[0]
    scores = length**2 * first.attention.pair_flops()
    linears = 2 * length * (weights(first) - first.mlp.inactive_weights())
    heads = decoder.shape.heads
    if kind == "scores":
        return {"MFLOPs": scores / 1e6, "score bytes": 4 * heads * length**2}
    return {"MFLOPs": (scores + linears) / 1e6, "scores' share of FLOPs": scores / (scores + linears)}


def slopes(times: Mapping[str, list[float]]) -> dict[str, float]:
    """Of each point but the first of its sweep, from the one before; by medians over rounds."""
    from gptlab.stats.elasticity import group_into_sweeps

    found = {}
    for points in group_into_sweeps([*times]).values():
        ordered = [(name, value, statistics.median(times[name])) for name, value in points.items()]
        for (_, x, t), (name, next_x, next_t) in pairwise(ordered):
            found[name] = math.log(next_t / t) / math.log(next_x / x)
    return found


def attending(decoder: "Decoder", length: int, place: "Place", kernel: str) -> Callable[[], None]:
    """Attention of all heads of the first layer, on random numbers."""
    import torch

    from gptlab.model import attention_kernels as attend
    from gptlab.model.forward_pass import PassMask

    first: Any = decoder.layers[0].attention
    draws = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(1, length, heads, first.head, generator=draws).to(place.device)
        for heads in (first.heads, first.kv_heads, first.kv_heads)
    )
    at = torch.arange(length, device=place.device)[None]
    sight = PassMask(first.mask, at, at, first.mask.whole(length))

    def act() -> None:
        with torch.inference_mode(), place.numerics(), attend.kernel(kernel):
            attend.attend(q, k, v, sight)

    return act


def passing(decoder: "Decoder", length: int, place: "Place", kernel: str) -> Callable[[], None]:
    """The first block, on random numbers."""
    import torch

    from gptlab.model import attention_kernels as attend
    from gptlab.model.forward_pass import ForwardPass

    first = decoder.layers[0]
    x = torch.randn(1, length, decoder.shape.width, generator=torch.Generator().manual_seed(0)).to(place.device)
    at = torch.arange(length, device=place.device)[None]

    def act() -> None:
        with torch.inference_mode(), place.numerics(), attend.kernel(kernel):
            first(first.attention_residual.expand(x), ForwardPass(at, at, decoder.position, plain=True))

    return act
