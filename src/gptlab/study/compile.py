"""Costs and gains of torch.compile, of a pass (no gradient) and of a step (loss and gradient, no optimiser).

first          seconds of the first call: tracing, compiling, nothing taken from a cache on disk
break-even     calls after which compiling has paid: (first - eager) / (eager - compiled); none if it never does
graphs         that the first call made; more than one: Python in between
recompiles     graphs more, when other lengths are read after it
ms a call      of calls by their number, `compiled call=1` is the first
off            largest difference from eager, in parts of the largest logit, or of the largest gradient

A mean over calls that includes the first depends on the number of calls. Differences beyond TOLERANCE are refused
before anything is timed. Both are without dropout, which draws otherwise where it is compiled.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from gptlab.config.recipe import Recipe
from gptlab.errors import Refused
from gptlab.model.compile_policy import find_missing_dependency
from gptlab.stats.labels import ArmValues, label_arm
from gptlab.stats.measurements import Row
from gptlab.stats.timing import AA_CONTROL
from gptlab.study import Build, Study, get_vocab_size

if TYPE_CHECKING:
    from torch import Tensor

    from gptlab.model.decoder import Decoder
    from gptlab.study.tools.timing import Placement

EAGER, COMPILED = "eager", "compiled"
REPORTED_CALLS = (1, 2, 3, 5, 10, 20)
"""Numbers of the calls that the report draws."""
TOLERANCE = {True: 1e-4, False: 5e-2}
"""Largest relative difference by full precision: in 32 bits, and in bf16, whose 8 bits are rounded elsewhere."""


class Compile(Study):
    """Time decoders eager and compiled.

    backend  of torch.compile
    lengths  numbers of tokens that are read after the context; null is half the context, then a quarter
    batch    sequences of a call
    vocab    vocabulary size; null is that of the recipe's text
    rounds   rounds in which eager and compiled are timed, interleaved
    """

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

        from gptlab.study.tools.timing import Placement

        if self.backend not in (known := torch.compiler.list_backends(exclude_tags=())):
            raise Refused(f"study.backend={self.backend} is not known; choose from {', '.join(known)}")
        for name, recipe in arms.items():
            if self.backend == "inductor" and (lacking := find_missing_dependency(Placement(recipe).device.type)):
                raise Refused(
                    f"study=compile needs {lacking}, which is not here; install it or use study.backend=eager"
                )
            context = recipe.settings.model.context
            if unfit := [length for length in self.other_lengths(context) if not 0 < length < context]:
                problem = f"study.lengths={unfit} is not in 1 .. model.context - 1 = {context - 1}"
                raise Refused(f"{name}: {problem}; give shorter ones, or [] for none")

    def other_lengths(self, context: int) -> list[int]:
        """Return the lengths that are read after the context."""
        return [context // 2, context // 4] if self.lengths is None else self.lengths

    def __call__(self, arms: dict[str, Recipe], block: int, build: Build, folder: Path) -> list[Row]:
        from gptlab.study.tools.timing import Placement

        rows = []
        for name, recipe in arms.items():
            placement, prefix = Placement(recipe), f"{name}: " if len(arms) > 1 else ""
            decoder = build(recipe, get_vocab_size(recipe, self.vocab)).to(placement.device).eval()
            context = recipe.settings.model.context
            for kind, function in (("pass", run_pass), ("step", run_step)):
                bench = CompileBench(
                    function=function,
                    decoder=decoder,
                    placement=placement,
                    tokens=self.draw_tokens(decoder, context).to(placement.device),
                    backend=self.backend,
                )
                for values, metric, value in bench.measure(self.other_lengths(context), self.rounds):
                    name_of_metric = f"{prefix}{metric.format(kind)}"
                    rows.append(Row(label_arm(values), block, name_of_metric, value, arm_values=values))
        return rows

    def draw_tokens(self, decoder: "Decoder", length: int) -> "Tensor":
        """Return random tokens, (batch, length + 1)."""
        import torch

        generator = torch.Generator().manual_seed(0)
        return torch.randint(decoder.shape.tokens, (self.batch, length + 1), generator=generator)


class CompileBench(NamedTuple):
    """A function of a decoder and tokens (B, T + 1), to be measured eager and compiled."""

    function: "Callable[..., list[Tensor]]"
    decoder: "Decoder"
    placement: "Placement"
    tokens: "Tensor"
    backend: str

    def measure(self, lengths: list[int], rounds: int) -> list[tuple[ArmValues, str, float | list[float]]]:
        """Return (arm, metric, value), an arm by its (knob, value) pairs.

        `{}` in the metric stands for the name of the function.
        """
        import torch
        from torch._dynamo.utils import counters
        from torch._inductor.utils import fresh_cache

        from gptlab.study.tools.timing import time_interleaved

        # else graphs of the arm before would count, and its limit of recompilations
        torch._dynamo.reset()
        counters.clear()
        compiled = cast("Decoder", torch.compile(self.decoder, backend=self.backend))
        # before anything is compiled: it also warms up, so that eager's first call is no slower than its others
        eager_results = self.call(self.decoder)
        with fresh_cache():  # inductor would else take the code of an earlier run from disk
            results, first_s = self.time_call(compiled)
            # counted now, before other lengths add theirs
            graphs, error = counters["stats"]["unique_graphs"], largest_difference(results, eager_results)
        tolerance = TOLERANCE[self.placement.full_precision]
        if not error <= tolerance:  # not >, so that NaN is refused too
            raise ValueError(f"{self.backend}: compiled differs by {error:.2g}, more than {tolerance}")
        # every call in order, so that a warm-up over several calls is seen, which medians over rounds hide
        call_times = {COMPILED: [first_s], EAGER: []}
        for _ in range(REPORTED_CALLS[-1]):
            call_times[EAGER].append(self.time_call(self.decoder)[1])
            call_times[COMPILED].append(self.time_call(compiled)[1])
        # two names for one decoder: how far its times lie apart is what a clock can tell
        decoders = {EAGER: self.decoder, COMPILED: compiled, AA_CONTROL: self.decoder}
        actions = {name: partial(self.call, decoder) for name, decoder in decoders.items()}
        times = time_interleaved(actions, float("inf"), rounds)
        for length in lengths:  # the first of them may recompile with free lengths, so that the others do not
            self.call(compiled, length)
        eager_s, compiled_s = (statistics.median(times[name]) / 1000 for name in (EAGER, COMPILED))
        metrics = {"{}: first s": first_s, "{}: off": error, "{}: graphs": graphs}
        metrics["{}: recompiles"] = counters["stats"]["unique_graphs"] - graphs
        # a compiled call that is no faster never pays
        if compiled_s < eager_s:
            metrics["{}: break-even calls"] = max(1.0, (first_s - eager_s) / (eager_s - compiled_s))
        rows: list[tuple[ArmValues, str, float | list[float]]] = [((("", arm),), "ms/{}", times[arm]) for arm in times]
        rows += [((("", COMPILED),), metric, value) for metric, value in metrics.items()]
        for arm, seconds in call_times.items():
            for n in REPORTED_CALLS:
                rows.append(((("", arm), ("call", str(n))), "{}: ms a call", 1000 * seconds[n - 1]))
        return rows

    def time_call(self, decoder: "Decoder") -> "tuple[list[Tensor], float]":
        """Return the results of one call, and its seconds."""
        from gptlab.study.tools.timing import synchronize

        synchronize()
        start = time.perf_counter()
        results = self.call(decoder)
        synchronize()
        return results, time.perf_counter() - start

    def call(self, decoder: "Decoder", length: int | None = None) -> "list[Tensor]":
        """Return the results of one call, on the first `length` tokens where given."""
        with self.placement.numerics():
            return self.function(decoder, self.tokens if length is None else self.tokens[:, : length + 1])


def run_pass(decoder: "Decoder", tokens: "Tensor") -> "list[Tensor]":
    """Return the logits, computed without gradient."""
    import torch

    with torch.no_grad():  # what is compiled under inference mode is compiled for it alone
        return [decoder(tokens[:, :-1]).logits]


def run_step(decoder: "Decoder", tokens: "Tensor") -> "list[Tensor]":
    """Return all gradients of the loss."""
    output = decoder(tokens[:, :-1], tokens[:, 1:])
    # with a mixture's balance and the like, as a training step has them
    (output.loss + sum(output.losses.values())).backward()
    gradients = [p.grad for p in decoder.parameters() if p.grad is not None]
    decoder.zero_grad(set_to_none=True)
    return gradients


def largest_difference(results: "list[Tensor]", reference: "list[Tensor]") -> float:
    """Return the largest difference, in parts of the largest number."""
    largest = max(tensor.abs().max().item() for tensor in reference)
    return max((a - b).abs().max().item() for a, b in zip(results, reference, strict=True)) / largest
