"""What makes writing fast: a ladder from all rows for each token to the weights' bandwidth, every rung timed in turn.

none .. +table   without caches, op by op (`ladder`); "+norm" has all toggles up to norm, "attention-norm" these two
naive .. int4    with caches (`rungs`)
limit            all Linears once for one token and nothing else: the memory's bandwidth, since each weight is read once

Each rung is also given one text, token by token, and its logits are held against one whole pass in float32: their
largest difference in parts of the largest logit, and how often the likeliest token is the same. Weights are random:
what a token costs does not depend on them, but how often a draft is right does, so `speculative` tells its cost alone.
A rung of the ladder is timed at POINTS lengths, evenly spaced, and its rows before are read without the clock.
"""

import random
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptlab.config.recipe import Recipe
from gptlab.errors import Refused
from gptlab.stats.measurements import Row
from gptlab.stats.timing import AA_CONTROL
from gptlab.study import Build, Study, vocabulary

if TYPE_CHECKING:
    from torch import Tensor

    from gptlab.model.decoder import Decoder
    from gptlab.study.tools.cached_decoding import Rung

POINTS = 8
CHECKED = 64
"""Tokens of the text that is read by all."""
LIMIT = "limit"


class Decode(Study):
    """tokens: of a text, its first one included; null is the context, at most 200. vocab: null is that of the recipe's
    text. draft_layers: the first so many layers guess for the rung `speculative`."""

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
        self.names()
        for name, recipe in arms.items():
            model = recipe.settings.model
            if not POINTS <= self.length(recipe) <= model.context:
                told = f"study.tokens={self.tokens} is not in {POINTS} .. model.context={model.context}"
                raise Refused(f"{name}: {told}; try study.tokens={model.context}, or a larger context")
            if "speculative" in self.names() and self.draft_layers >= model.layers:
                told = f"study.draft_layers={self.draft_layers} is not less than model.layers={model.layers}"
                raise Refused(f"{name}: {told}; try 1, or leave speculative out of study.rungs")

    def length(self, recipe: Recipe) -> int:
        """Tokens of a text."""
        return min(200, recipe.settings.model.context) if self.tokens is None else self.tokens

    def __call__(self, arms: dict[str, Recipe], block: int, build: Build, folder: Path) -> list[Row]:
        rows = []
        for name, recipe in arms.items():
            found = self.measured(recipe, block, build)
            prefix = f"{name.replace('/', ':')} " if len(arms) > 1 else ""
            rows += [
                row._replace(arm=row.arm if row.arm == AA_CONTROL and not rows else prefix + row.arm) for row in found
            ]
        return rows

    def measured(self, recipe: Recipe, block: int, build: Build) -> list[Row]:
        """One decoder on all rungs."""
        import torch

        from gptlab.config.factory import factory

        torch.set_num_threads(factory(recipe.config["trainer"], "trainer")().threads)
        decoder = build(recipe, vocabulary(recipe, self.vocab)).eval()
        bench = Bench(decoder, self.length(recipe), self.names(), self.draft_layers)
        exact = {name: bench.exactness(name) for name in bench.names}
        times = bench.times(self.rounds, block)
        limit = statistics.median(times[LIMIT])
        rows = [Row(name, block, "ms/token", ms) for name, ms in times.items()]
        for name in bench.names:
            ms = statistics.median(times[name])
            share = bench.nbytes(name) / bench.nbytes(LIMIT) * limit / ms
            told = {"tokens/s": 1000 / ms, "of bandwidth": share, **exact[name]}
            rows += [Row(name, block, metric, value) for metric, value in told.items()]
        return rows

    def names(self) -> list[str]:
        """The rungs asked for, or all."""
        from gptlab.study.tools.cached_decoding import RUNGS
        from gptlab.study.tools.uncached_decoding import TOGGLES

        every = ["none", *(f"+{toggle}" for toggle in TOGGLES), *RUNGS]
        for name in self.rungs or ():
            if name not in every and not set(name.split("-")) <= {*TOGGLES}:
                raise Refused(f"study.rungs: {name} is no rung; choose from {', '.join(every)}, or join toggles by -")
        return self.rungs or every


class Bench:
    """One decoder on all its rungs."""

    def __init__(self, decoder: "Decoder", tokens: int, names: list[str], draft_layers: int) -> None:
        import torch

        from gptlab.study.tools.cached_decoding import RUNGS
        from gptlab.study.tools.uncached_decoding import Ladder

        self.decoder, self.names, self.tokens = decoder, names, tokens
        self.text: Tensor = torch.randint(decoder.shape.tokens, (1, tokens), generator=torch.Generator().manual_seed(0))
        self.rungs: dict[str, Rung] = {one: RUNGS[one](decoder, draft_layers) for one in names if one in RUNGS}
        self.toggles = {one: toggled(one) for one in names if one not in RUNGS}
        self.ladder: Ladder | None = Ladder(decoder, tokens) if self.toggles else None

    def exactness(self, name: str) -> dict[str, float]:
        """How far from a whole pass, token by token."""
        import torch

        text = self.text[:, :CHECKED]
        with torch.inference_mode():
            whole = self.decoder.forward(text).logits
        assert whole is not None
        whole = whole[0, :, : self.decoder.shape.tokens]
        said = self.rungs[name].logits(text) if name in self.rungs else self.climbed(name, text)
        off = (said - whole[-len(said) :]).abs().max() / whole.abs().max()
        same = (said.argmax(-1) == whole[-len(said) :].argmax(-1)).float().mean()
        return {"logits off": off.item(), "tokens alike": same.item()}

    def climbed(self, name: str, text: "Tensor") -> "Tensor":
        """The logits of a rung of the ladder, (T - 1, V)."""
        import torch

        assert self.ladder is not None
        on = self.toggles[name]
        self.ladder.read(text[:, :1], on, fresh=True)
        said = [self.ladder.read(text[:, : at + 1], on) for at in range(1, text.shape[1])]
        return torch.cat(said)[:, : self.decoder.shape.tokens]

    def nbytes(self, name: str) -> int:
        """Bytes of weights that one token meets."""
        from gptlab.study.tools.cached_decoding import Rung

        return (self.rungs[name] if name in self.rungs else Rung(self.decoder)).nbytes()

    def times(self, rounds: int, seed: int) -> dict[str, list[float]]:
        """Milliseconds a token of all rungs, the first of them twice, and of the limit; a number a round."""
        acts: dict[str, Any] = {name: lambda rung=rung: self.written(rung) for name, rung in self.rungs.items()}
        acts |= {LIMIT: self.limit}
        if self.names[0] in self.rungs:
            acts |= {AA_CONTROL: acts[self.names[0]]}
        climbs = {**self.toggles, **({} if AA_CONTROL in acts else {AA_CONTROL: self.toggles[self.names[0]]})}
        order, draws = [*acts, ""], random.Random(seed)
        for act in acts.values():
            act()  # warm, compiled
        found: dict[str, list[float]] = {name: [] for name in (*self.names, AA_CONTROL, LIMIT)}
        for _ in range(rounds):
            draws.shuffle(order)
            for name in order:
                each = {name: acts[name]()} if name else self.climb(climbs, draws)
                for one, ms in each.items():
                    found[one].append(ms)
        return found

    def written(self, rung: "Rung") -> float:
        return _clocked(lambda: rung.write(self.text[:, :1], self.tokens - 1)) / (self.tokens - 1)

    def climb(self, climbs: dict[str, frozenset[str]], draws: random.Random) -> dict[str, float]:
        """The rungs of the ladder, in turn at each length; the rows before are read once for all."""
        ladder, names = self.ladder, [*climbs]
        found = dict.fromkeys(names, 0.0)
        if ladder is None:
            return found
        for point in range(POINTS):
            length = 2 + (self.tokens - 2) * (2 * point + 1) // (2 * POINTS)
            ladder.read(self.text[:, : length - 1], frozenset(), fresh=True)
            draws.shuffle(names)
            for name in names:
                on = climbs[name]
                found[name] += _clocked(lambda n=length, on=on: ladder.read(self.text[:, :n], on)) / POINTS
        return found

    def limit(self) -> float:
        """All weights once, as one token needs them: the least of some passes, since neighbours only add."""
        import torch

        parts = [one for one in self.decoder.modules() if isinstance(one, torch.nn.Linear)]
        given = [torch.randn(1, one.in_features) for one in parts]

        def once() -> None:
            with torch.inference_mode():
                for part, x in zip(parts, given, strict=True):
                    torch.nn.functional.linear(x, part.weight)

        return statistics.median(_clocked(once) for _ in range(20))


def toggled(name: str) -> frozenset[str]:
    """The toggles of a rung of the ladder."""
    from gptlab.study.tools.uncached_decoding import TOGGLES

    if name == "none":
        return frozenset()
    if name.startswith("+"):
        return frozenset(TOGGLES[: TOGGLES.index(name[1:]) + 1])
    return frozenset(name.split("-"))


def _clocked(act: Any) -> float:
    began = time.perf_counter()
    act()
    return (time.perf_counter() - began) * 1000
