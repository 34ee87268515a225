"""Cost of length: attention alone and a whole block, over the number of tokens T at fixed widths.

scores    softmax(q k^T) v of all heads, no Linear: 4 T^2 H D FLOPs, of which a causal mask shows half
block     the recipe's first block: its Linears and norms too, which grow with T alone

local slope    of ln t over ln T, from the length before to this one: 1 grows with T, 2 with its square
score bytes    H T^2 numbers, which the plain formula writes out, and sdpa does not

A block of MHA with an MLP of 4 widths has as many FLOPs in scores as in Linears at T = 6 widths (24 T d^2 = 4 T^2 d);
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
from gptlab.stats.labels import ArmValues, SizePoint, label_arm, read_point
from gptlab.stats.measurements import Row
from gptlab.stats.timing import AA_CONTROL
from gptlab.study import Build, Study

if TYPE_CHECKING:
    from torch import Tensor

    from gptlab.model.decoder import Decoder
    from gptlab.study.tools.timing import Placement

VOCAB = 2
"""Vocabulary size; no token is read."""


class AttentionCost(Study):
    """Time attention and a block over the context length.

    lengths  numbers of tokens, ascending, two or more
    kernel   computes attention, in the block too: naive or sdpa
    rounds   rounds in which all points are timed, interleaved
    """

    def __init__(self, *, lengths: list[int], kernel: Literal["naive", "sdpa"] = "naive", rounds: int = 12) -> None:
        if len(lengths) < 2 or min(lengths) < 1 or lengths != sorted({*lengths}):
            raise ValueError(f"lengths={lengths} does not rise from 1 or more, twice or more; try [64,128,256]")
        if rounds < 1:
            raise ValueError(f"rounds={rounds} is less than 1; give 1 or more")
        self.lengths, self.kernel, self.rounds = lengths, kernel, rounds

    def extend_context(self, recipe: Recipe) -> Recipe:
        """Return the recipe with the longest of the lengths as its context."""
        return set_values(recipe, model__context=self.lengths[-1])

    def check(self, arms: dict[str, Recipe]) -> None:
        from gptlab.training.build import build_on_meta

        for name, recipe in arms.items():
            first = build_on_meta(self.extend_context(recipe), VOCAB).layers[0].attention
            # softmax attention alone has scores of T x T; a recurrence has none to time
            if not hasattr(first, "kv_heads"):
                raise Refused(
                    f"{name}: study=attention_cost counts scores of softmax, which {type(first).__name__} "
                    "in the first layer has not; take attention=mha, gqa, mqa or swa, or study=latency"
                )

    def __call__(self, arms: dict[str, Recipe], block: int, build: Build, folder: Path) -> list[Row]:
        from gptlab.study.tools.timing import Placement, time_interleaved

        passes: dict[str, Callable[[], None]] = {}
        values_by_point: dict[str, ArmValues] = {}
        rows = []
        for name, recipe in arms.items():
            prefix = (("", name.replace("/", ":")),) if len(arms) > 1 else ()
            placement = Placement(recipe)
            # one decoder for all lengths: only the text differs
            decoder = build(self.extend_context(recipe), VOCAB).to(placement.device).eval()
            for kind, make_pass in (("scores", make_attention_pass), ("block", make_block_pass)):
                for length in self.lengths:
                    values = (*prefix, ("", kind), ("length", str(length)))
                    point = label_arm(values)
                    values_by_point[point] = values
                    passes[point] = make_pass(decoder, length, placement, self.kernel)
                    counts = count_costs(decoder, kind, length)
                    for metric, value in counts.items():
                        rows.append(Row(point, block, metric, value, arm_values=values))
        # no limit of seconds: every round has all points, or slopes would compare other moments
        times = time_interleaved({**passes, AA_CONTROL: passes[next(iter(passes))]}, float("inf"), self.rounds)
        time_rows = []
        for point, ms in times.items():  # the A/A control is no point of a curve
            time_rows.append(Row(point, block, "ms", ms, arm_values=values_by_point.get(point, ())))
        points = {name: point for name, values in values_by_point.items() if (point := read_point(values))}
        for point, slope in compute_slopes(times, points).items():
            rows.append(Row(point, block, "local slope", slope, arm_values=values_by_point[point]))
        return time_rows + rows


def count_costs(decoder: "Decoder", kind: str, length: int) -> dict[str, float]:
    """Return MFLOPs of one pass that computes every score; of `scores` also the bytes of their matrix in 32 bits."""
    from gptlab.model.mlp import count_weights

    first = decoder.layers[0]
    scores = length**2 * first.attention.pair_flops()  # all T^2 pairs, those that the mask hides too
    # a weight is a multiplication and an addition for each token that meets it
    linears = 2 * length * (count_weights(first) - first.mlp.inactive_weights())
    heads = decoder.shape.heads
    if kind == "scores":
        # float32, whatever the kernel: the plain formula's matrix
        return {"MFLOPs": scores / 1e6, "score bytes": 4 * heads * length**2}
    return {"MFLOPs": (scores + linears) / 1e6, "scores' share of FLOPs": scores / (scores + linears)}


def compute_slopes(times: Mapping[str, list[float]], points: Mapping[str, SizePoint]) -> dict[str, float]:
    """Return the local slope of each point but the first of its sweep, by medians over rounds."""
    from gptlab.stats.elasticity import group_into_sweeps

    slopes = {}
    for sizes in group_into_sweeps(points).values():
        ordered = [(name, value, statistics.median(times[name])) for name, value in sizes.items()]
        for (_, x, t), (name, next_x, next_t) in pairwise(ordered):
            # between neighbours: a single slope over all lengths would hide the bend
            slopes[name] = math.log(next_t / t) / math.log(next_x / x)
    return slopes


def make_attention_pass(decoder: "Decoder", length: int, placement: "Placement", kernel: str) -> Callable[[], None]:
    """Return a pass of the first layer's attention, all heads, on random q, k and v."""
    import torch

    from gptlab.model import attention_kernels as attend
    from gptlab.model.forward_pass import PassMask

    attention: Any = decoder.layers[0].attention
    generator = torch.Generator().manual_seed(0)

    def draw(heads: int) -> "Tensor":  # (1, T, heads, D)
        return torch.randn(1, length, heads, attention.head, generator=generator).to(placement.device)

    q, k, v = draw(attention.heads), draw(attention.kv_heads), draw(attention.kv_heads)
    positions = torch.arange(length, device=placement.device)[None]
    pass_mask = PassMask(attention.mask, positions, positions, attention.mask.is_plain_causal(length))

    def run_attention() -> None:
        with torch.inference_mode(), placement.numerics(), attend.force_kernel(kernel):
            attend.attend(q, k, v, pass_mask)

    return run_attention


def make_block_pass(decoder: "Decoder", length: int, placement: "Placement", kernel: str) -> Callable[[], None]:
    """Return a pass of the first block on a random residual stream (1, T, width)."""
    import torch

    from gptlab.model import attention_kernels as attend
    from gptlab.model.forward_pass import ForwardPass

    first = decoder.layers[0]
    x = torch.randn(1, length, decoder.shape.width, generator=torch.Generator().manual_seed(0)).to(placement.device)
    positions = torch.arange(length, device=placement.device)[None]

    def run_block() -> None:
        with torch.inference_mode(), placement.numerics(), attend.force_kernel(kernel):
            first(
                first.attention_residual.expand(x),
                ForwardPass(positions, positions, decoder.position, default_positions=True),
            )

    return run_block
