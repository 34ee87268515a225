"""Time of decoding a token: variants from recomputing all rows to the weights' bandwidth, timed interleaved.

none .. +table   without caches, op by op (tools/uncached_decoding.py); "+norm" sets all toggles up to norm,
                 "attention-norm" these two
naive .. int4    with caches (tools/cached_decoding.py)
limit            all Linears once for one token and nothing else: the memory's bandwidth, since each weight is read once

Each variant also reads one text, token by token, and its logits are compared with one whole pass in float32: `logits
off` is the largest difference in parts of the largest logit, `tokens alike` how often the likeliest token is the same.
Weights are random: what a token costs does not depend on them, but how often a draft is right does, so `speculative`
shows its cost alone. An uncached variant is timed at POINTS lengths, evenly spaced; the rows before are computed off
the clock.
"""

import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptlab.config.recipe import Recipe
from gptlab.errors import Refused
from gptlab.stats.measurements import Row
from gptlab.stats.timing import AA_CONTROL
from gptlab.study import Build, Study, get_vocab_size

if TYPE_CHECKING:
    from torch import Tensor

    from gptlab.model.decoder import Decoder
    from gptlab.study.tools.cached_decoding import DecodingVariant

POINTS = 8
CHECKED = 64
"""Number of tokens of the text that all variants read to be compared."""
LIMIT = "limit"


class Decode(Study):
    """Time and check decoding variants.

    tokens        length of a text, its first token included; null is the context, at most 200
    rungs         names of variants; null takes all
    rounds        rounds in which all variants are timed, interleaved
    vocab         vocabulary size; null is that of the recipe's text
    draft_layers  number of first layers that draft for `speculative`
    """

    def __init__(
        self,
        *,
        tokens: int | None = None,
        rungs: list[str] | None = None,
        rounds: int = 6,
        vocab: int | None = None,
        draft_layers: int = 1,
    ) -> None:
        for name, least, value in (("rounds", 1, rounds), ("vocab", 2, vocab)):
            if value is not None and value < least:
                raise ValueError(f"{name}={value} is less than {least}; give {least} or more")
        if draft_layers < 1:
            raise ValueError(f"draft_layers={draft_layers} guesses nothing; try 1")
        self.tokens, self.rungs, self.rounds = tokens, rungs, rounds
        self.vocab, self.draft_layers = vocab, draft_layers

    def check(self, arms: dict[str, Recipe]) -> None:
        self.list_variants()
        for name, recipe in arms.items():
            model = recipe.settings.model
            if not POINTS <= self.text_length(recipe) <= model.context:
                problem = f"study.tokens={self.tokens} is not in {POINTS} .. model.context={model.context}"
                raise Refused(f"{name}: {problem}; try study.tokens={model.context}, or a larger context")
            if "speculative" in self.list_variants() and self.draft_layers >= model.layers:
                problem = f"study.draft_layers={self.draft_layers} is not less than model.layers={model.layers}"
                raise Refused(f"{name}: {problem}; try 1, or leave speculative out of study.rungs")

    def text_length(self, recipe: Recipe) -> int:
        """Return the number of tokens of a text."""
        return min(200, recipe.settings.model.context) if self.tokens is None else self.tokens

    def __call__(self, arms: dict[str, Recipe], block: int, build: Build, folder: Path) -> list[Row]:
        rows = []
        for name, recipe in arms.items():
            prefix = f"{name.replace('/', ':')} " if len(arms) > 1 else ""
            is_first = not rows
            for row in self.measure_decoder(recipe, block, build):
                # the A/A control of the first decoder is that of the study, whose baseline is its first variant
                is_control = is_first and row.arm == AA_CONTROL
                rows.append(row if is_control else row._replace(arm=prefix + row.arm))
        return rows

    def measure_decoder(self, recipe: Recipe, block: int, build: Build) -> list[Row]:
        """Return the rows of all variants of one recipe's decoder."""
        import torch

        from gptlab.config.factory import factory

        torch.set_num_threads(factory(recipe.config["trainer"], "trainer")().threads)
        decoder = build(recipe, get_vocab_size(recipe, self.vocab)).eval()
        bench = DecodeBench(decoder, self.text_length(recipe), self.list_variants(), self.draft_layers)
        # before any clock: a variant that writes other text has no time worth telling
        exactness = {name: bench.measure_exactness(name) for name in bench.names}
        times = bench.time_interleaved(self.rounds, block)
        limit_ms = statistics.median(times[LIMIT])
        rows = [Row(name, block, "ms/token", ms) for name, ms in times.items()]
        for name in bench.names:
            ms = statistics.median(times[name])
            # bytes over time, of this variant over the limit's: 1 is the memory's bandwidth
            bandwidth_share = bench.count_weight_bytes(name) / bench.count_weight_bytes(LIMIT) * limit_ms / ms
            metrics = {"tokens/s": 1000 / ms, "of bandwidth": bandwidth_share, **exactness[name]}
            rows += [Row(name, block, metric, value) for metric, value in metrics.items()]
        return rows

    def list_variants(self) -> list[str]:
        """Return the names of the variants to be timed."""
        from gptlab.study.tools.cached_decoding import CACHED_VARIANTS
        from gptlab.study.tools.uncached_decoding import TOGGLES

        known = ["none", *(f"+{toggle}" for toggle in TOGGLES), *CACHED_VARIANTS]
        for name in self.rungs or ():
            if name not in known and not set(name.split("-")) <= {*TOGGLES}:
                raise Refused(
                    f"study.rungs: {name} is no variant; choose from {', '.join(known)}, or join toggles by -"
                )
        return self.rungs or known


class DecodeBench:
    """One decoder in all its decoding variants, `cached` and `uncached`."""

    def __init__(self, decoder: "Decoder", tokens: int, names: list[str], draft_layers: int) -> None:
        import torch

        from gptlab.study.tools.cached_decoding import CACHED_VARIANTS
        from gptlab.study.tools.uncached_decoding import UncachedDecoder

        self.decoder, self.names, self.tokens = decoder, names, tokens
        self.text: Tensor = torch.randint(decoder.shape.tokens, (1, tokens), generator=torch.Generator().manual_seed(0))
        self.cached: dict[str, DecodingVariant] = {
            name: CACHED_VARIANTS[name](decoder, draft_layers) for name in names if name in CACHED_VARIANTS
        }
        self.toggles = {name: parse_toggles(name) for name in names if name not in CACHED_VARIANTS}
        self.uncached: UncachedDecoder | None = UncachedDecoder(decoder, tokens) if self.toggles else None

    def measure_exactness(self, name: str) -> dict[str, float]:
        """Return how far a variant's logits, token by token, are from those of one whole pass."""
        import torch

        # enough to see a wrong cache, few enough for variants that recompute all rows
        text = self.text[:, :CHECKED]
        with torch.inference_mode():
            reference = self.decoder.forward(text).logits
        assert reference is not None
        reference = reference[0, :, : self.decoder.shape.tokens]  # (T, V) without the rows that pad the vocabulary
        if name in self.cached:
            logits = self.cached[name].compute_logits(text)
        else:
            logits = self.compute_uncached_logits(name, text)  # one row less: the first token only fills the rows
        largest_error = (logits - reference[-len(logits) :]).abs().max() / reference.abs().max()
        agreement = (logits.argmax(-1) == reference[-len(logits) :].argmax(-1)).float().mean()
        return {"logits off": largest_error.item(), "tokens alike": agreement.item()}

    def compute_uncached_logits(self, name: str, text: "Tensor") -> "Tensor":
        """Return the logits of an uncached variant, (T - 1, V)."""
        import torch

        assert self.uncached is not None
        toggles = self.toggles[name]
        self.uncached.compute_logits(text[:, :1], toggles, fresh=True)
        logits = []
        for length in range(2, text.shape[1] + 1):
            logits.append(self.uncached.compute_logits(text[:, :length], toggles))
        return torch.cat(logits)[:, : self.decoder.shape.tokens]

    def count_weight_bytes(self, name: str) -> int:
        """Return the bytes of weights that one token needs."""
        from gptlab.study.tools.cached_decoding import DecodingVariant

        return (self.cached[name] if name in self.cached else DecodingVariant(self.decoder)).count_weight_bytes()

    def time_interleaved(self, rounds: int, seed: int) -> dict[str, list[float]]:
        """Return milliseconds a token by variant, one a round, the limit and an A/A control included."""
        timers: dict[str, Any] = {
            name: lambda variant=variant: self.time_cached(variant) for name, variant in self.cached.items()
        }
        timers |= {LIMIT: self.time_limit}
        # the first variant is the baseline, whichever kind it is: its second timing is the clock's noise
        if self.names[0] in self.cached:
            timers |= {AA_CONTROL: timers[self.names[0]]}
        toggle_sets = dict(self.toggles)
        if AA_CONTROL not in timers:
            toggle_sets[AA_CONTROL] = self.toggles[self.names[0]]
        # a new order each round, so that no variant always runs after the same one
        order, generator = [*timers, ""], random.Random(seed)  # "" stands for all uncached variants, timed together
        for timer in timers.values():
            timer()  # warms up, and compiles
        times: dict[str, list[float]] = {name: [] for name in (*self.names, AA_CONTROL, LIMIT)}
        for _ in range(rounds):
            generator.shuffle(order)
            for name in order:
                ms_by_name = {name: timers[name]()} if name else self.time_uncached(toggle_sets, generator)
                for variant_name, ms in ms_by_name.items():
                    times[variant_name].append(ms)
        return times

    def time_cached(self, variant: "DecodingVariant") -> float:
        """Return milliseconds a token of writing one text with caches."""
        return _measure_ms(lambda: variant.write(self.text[:, :1], self.tokens - 1)) / (self.tokens - 1)

    def time_uncached(self, toggle_sets: dict[str, frozenset[str]], generator: random.Random) -> dict[str, float]:
        """Return milliseconds a token of the uncached variants, as means over POINTS lengths.

        The variants are shuffled at each length; the rows before are computed once for all.
        """
        uncached, names = self.uncached, [*toggle_sets]
        times = dict.fromkeys(names, 0.0)
        if uncached is None:
            return times
        for point in range(POINTS):
            # the middles of POINTS equal parts of 2 .. tokens
            length = 2 + (self.tokens - 2) * (2 * point + 1) // (2 * POINTS)
            uncached.compute_logits(self.text[:, : length - 1], frozenset(), fresh=True)
            generator.shuffle(names)
            for name in names:
                toggles = toggle_sets[name]
                text = self.text[:, :length]
                times[name] += _measure_ms(lambda x=text, on=toggles: uncached.compute_logits(x, on)) / POINTS
        return times

    def time_limit(self) -> float:
        """Return milliseconds of reading all weights once, as one token needs them.

        The median of twenty passes.
        """
        import torch

        # every weight is read once for a token, whatever the method: no decoding of batch 1 can be faster
        linears = [linear for linear in self.decoder.modules() if isinstance(linear, torch.nn.Linear)]
        inputs = [torch.randn(1, linear.in_features) for linear in linears]

        def apply_linears() -> None:
            with torch.inference_mode():
                for linear, x in zip(linears, inputs, strict=True):
                    torch.nn.functional.linear(x, linear.weight)

        return statistics.median(_measure_ms(apply_linears) for _ in range(20))


def parse_toggles(name: str) -> frozenset[str]:
    """Return the toggles of an uncached variant's name."""
    from gptlab.study.tools.uncached_decoding import TOGGLES

    if name == "none":
        return frozenset()
    if name.startswith("+"):
        return frozenset(TOGGLES[: TOGGLES.index(name[1:]) + 1])
    return frozenset(name.split("-"))


def _measure_ms(action: Callable[[], object]) -> float:
    """Return the milliseconds of one call."""
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1000
