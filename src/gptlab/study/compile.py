"""What torch.compile costs and gives, of a pass (no gradient) and of a step (loss and gradient, no optimiser).

first          seconds of the first call: tracing, compiling, nothing taken from a cache on disk
break-even     calls after which compiling has paid: (first - eager) / (eager - compiled); none if it never does
graphs         that the first call made; more than one: Python in between
recompiles     graphs more, when other lengths are read after it
ms a call      of calls by their number, `compiled call=1` is the first
off            largest difference from eager, in parts of the largest logit, or of the largest gradient

A mean over calls that holds the first says how often was called, not how fast. What differs by more than TOLERANCE
fails before it is timed. Both are without dropout, which draws otherwise where it is compiled.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from gptlab.config.recipe import Recipe
from gptlab.errors import Refused
from gptlab.model.compile_policy import missing
from gptlab.stats.measurements import Row
from gptlab.stats.timing import AA_CONTROL
from gptlab.study import Build, Study, vocabulary

if TYPE_CHECKING:
    from torch import Tensor

    from gptlab.model.decoder import Decoder
    from gptlab.study.tools.timing import Place

EAGER, COMPILED = "eager", "compiled"
CALLS = (1, 2, 3, 5, 10, 20)
"""Calls that are drawn."""
TOLERANCE = {True: 1e-4, False: 5e-2}
"""In 32 bits, and in bf16, which has 8 bits: compiled, it rounds elsewhere."""


class Compile(Study):
    """lengths: null is half the context, then a quarter. vocab: null is that of the recipe's text."""

    def __init__(
        self,
        *,
        backend: str = "inductor",
        lengths: list[int] | None = None,
        batch: int = 1,
        vocab: int | None = None,
        rounds: int = 50,
    ) -> None:
        for name, least, value in (("batch", 1, batch), ("vocab", 2, vocab), ("rounds", 1, rounds)):
            if value is not None and value < least:
                raise ValueError(f"{name}={value} is less than {least}; give {least} or more")
        self.backend, self.lengths, self.batch, self.vocab, self.rounds = backend, lengths, batch, vocab, rounds

    def check(self, arms: dict[str, Recipe]) -> None:
        import torch

        from gptlab.study.tools.timing import Place

        if self.backend not in (known := torch.compiler.list_backends(exclude_tags=())):
            raise Refused(f"study.backend={self.backend} is not known; choose from {', '.join(known)}")
        for name, recipe in arms.items():
            if self.backend == "inductor" and (lacking := missing(Place(recipe).device.type)):
                raise Refused(
                    f"study=compile needs {lacking}, which is not here; install it or use study.backend=eager"
                )
            context = recipe.settings.model.context
            if wrong := [length for length in self.others(context) if not 0 < length < context]:
                told = f"study.lengths={wrong} is not in 1 .. model.context - 1 = {context - 1}"
                raise Refused(f"{name}: {told}; give shorter ones, or [] for none")

    def others(self, context: int) -> list[int]:
        """Lengths that are read after the context."""
        return [context // 2, context // 4] if self.lengths is None else self.lengths

    def __call__(self, arms: dict[str, Recipe], block: int, build: Build, folder: Path) -> list[Row]:
        from gptlab.study.tools.timing import Place

        rows = []
        for name, recipe in arms.items():
            place, prefix = Place(recipe), f"{name}: " if len(arms) > 1 else ""
            decoder = build(recipe, vocabulary(recipe, self.vocab)).to(place.device).eval()
            context = recipe.settings.model.context
            for kind, act in (("pass", a_pass), ("step", a_step)):
                tried = Tried(act, decoder, place, self.tokens(decoder, context).to(place.device), self.backend)
                rows += [
                    Row(arm, block, f"{prefix}{metric.format(kind)}", value)
                    for arm, metric, value in tried.told(self.others(context), self.rounds)
                ]
        return rows

    def tokens(self, decoder: "Decoder", length: int) -> "Tensor":
        """Random tokens, (batch, length + 1)."""
        import torch

        draws = torch.Generator().manual_seed(0)
        return torch.randint(decoder.shape.tokens, (self.batch, length + 1), generator=draws)


class Tried(NamedTuple):
    """One way to call a decoder, as it is and compiled."""

    act: "Callable[..., list[Tensor]]"
    decoder: "Decoder"
    place: "Place"
    tokens: "Tensor"
    backend: str

    def told(self, lengths: list[int], rounds: int) -> list[tuple[str, str, float | list[float]]]:
        """(arm, metric, value), `{}` in the metric standing for what is called."""
        import torch
        from torch._dynamo.utils import counters
        from torch._inductor.utils import fresh_cache

        from gptlab.study.tools.timing import turns

        torch._dynamo.reset()
        counters.clear()
        compiled = cast("Decoder", torch.compile(self.decoder, backend=self.backend))
        eager = self.called(self.decoder)
        with fresh_cache():
            said, first = self.clocked(compiled)
            graphs, off = counters["stats"]["unique_graphs"], apart(said, eager)
        if not off <= TOLERANCE[self.place.wide]:
            raise ValueError(f"{self.backend}: compiled differs by {off:.2g}, more than {TOLERANCE[self.place.wide]}")
        calls = {COMPILED: [first], EAGER: []}
        for _ in range(CALLS[-1]):
            calls[EAGER].append(self.clocked(self.decoder)[1])
            calls[COMPILED].append(self.clocked(compiled)[1])
        ways = {EAGER: self.decoder, COMPILED: compiled, AA_CONTROL: self.decoder}
        acts = {name: partial(self.called, way) for name, way in ways.items()}
        times = turns(acts, float("inf"), rounds)
        for length in lengths:
            self.called(compiled, length)
        slow, quick = (statistics.median(times[name]) / 1000 for name in (EAGER, COMPILED))
        found = {"{}: first s": first, "{}: off": off, "{}: graphs": graphs}
        found["{}: recompiles"] = counters["stats"]["unique_graphs"] - graphs
        if quick < slow:
            found["{}: break-even calls"] = max(1.0, (first - slow) / (slow - quick))
        return [
            *((arm, "ms/{}", ms) for arm, ms in times.items()),
            *((COMPILED, *one) for one in found.items()),
            *((f"{arm} call={n}", "{}: ms a call", 1000 * s[n - 1]) for arm, s in calls.items() for n in CALLS),
        ]

    def clocked(self, way: "Decoder") -> "tuple[list[Tensor], float]":
        """What one call says, and its seconds."""
        from gptlab.study.tools.timing import synchronize

        synchronize()
        began = time.perf_counter()
        said = self.called(way)
        synchronize()
        return said, time.perf_counter() - began

    def called(self, way: "Decoder", length: int | None = None) -> "list[Tensor]":
        """What one call says."""
        with self.place.numerics():
            return self.act(way, self.tokens if length is None else self.tokens[:, : length + 1])


def a_pass(way: "Decoder", tokens: "Tensor") -> "list[Tensor]":
    """The logits, without gradient."""
    import torch

    with torch.no_grad():  # what is compiled under inference mode is compiled for it alone
        return [way(tokens[:, :-1]).logits]


def a_step(way: "Decoder", tokens: "Tensor") -> "list[Tensor]":
    """All gradients."""
    output = way(tokens[:, :-1], tokens[:, 1:])
    (output.loss + sum(output.losses.values())).backward()
    found = [p.grad for p in way.parameters() if p.grad is not None]
    way.zero_grad(set_to_none=True)
    return found


def apart(found: "list[Tensor]", wanted: "list[Tensor]") -> float:
    """The largest difference, in parts of the largest number."""
    most = max(one.abs().max().item() for one in wanted)
    return max((a - b).abs().max().item() for a, b in zip(found, wanted, strict=True)) / most
