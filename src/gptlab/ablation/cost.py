"""What a recipe will cost, before it is trained: counted on the decoder without memory, and timed in a few steps. And
arms made alike in what they cost."""

from collections.abc import Callable
from typing import Any

from gptlab.ablation.cells import Variant
from gptlab.build import sketch
from gptlab.config.recipe import Recipe, altered
from gptlab.errors import Refused

TRAINING = 3
"""A step takes about three times as long as its forward pass."""
OPENING = 2.0
"""Seconds to open and close a run, W&B's mirror included."""
MATCHED = {"tokens": "tokens", "flops": "training FLOPs", "time": "seconds of training"}
CLOSE = 0.005
"""Parameters match within this part."""


class Costs:
    """Counts and times recipes; every text is read once."""

    def __init__(self) -> None:
        self.corpora: dict[str, Any] = {}
        self.found: dict[str, dict[str, float]] = {}

    def corpus(self, recipe: Recipe) -> Any:
        """The text of a recipe."""
        from gptlab.corpus.load import read_corpus

        key = repr([recipe.config[name] for name in ("data", "tokenizer", "sample")] + [recipe.settings.model.context])
        if key not in self.corpora:
            self.corpora[key] = read_corpus(recipe)
        return self.corpora[key]

    def counts(self, recipe: Recipe) -> dict[str, float]:
        """Parameters, FLOPs to train on a token, cache bytes a token."""
        if recipe.hash not in self.found:
            made, context = sketch(recipe, self.corpus(recipe).tokenizer.vocab), recipe.settings.model.context
            held = sum(one.nbytes for one in made.new_cache(1, context) if one is not None)
            self.found[recipe.hash] = {
                "params": sum(p.numel() for p in made.parameters()),
                "flops_per_token": made.training_flops(context) / context,
                "cache_bytes_per_token": held / context,
            }
        return self.found[recipe.hash]

    def step_ms(self, recipes: dict[str, Recipe], rounds: int = 5) -> dict[str, float]:
        """Milliseconds of a training step of each, taken in turn; the least, since neighbours only add."""
        from gptlab.study.tools.timing import Bench, turns

        benches = {name: Bench(recipe, self.corpus(recipe)) for name, recipe in recipes.items()}
        found = turns({name: bench.step for name, bench in benches.items()}, 2.0 * len(benches), rounds)
        return {name: min(ms) for name, ms in found.items()}

    def seconds(self, recipe: Recipe, step_ms: float) -> float:
        """About what a run will take: training, evaluations and samples, in the counts that run.py makes."""
        settings, context = recipe.settings, recipe.settings.model.context
        sample, tokens = settings.sample, settings.batch_size * context
        forward = step_ms / 1000 / TRAINING / tokens
        reread = sample.count * sum(min(1 + token, context) for token in range(sample.length))
        scored = len(self.corpus(recipe).validation) + 7 * settings.evaluation.tokens + reread
        written = (3 + 2 * (sample.count if sample.one_by_one else 1)) * sample.length * settings.model.layers
        return settings.steps * step_ms / 1000 + scored * forward + 0.001 * written + OPENING


def disk(params: float, recipe: Recipe) -> float:
    """Bytes that a run leaves: weights and two moments twice, the best weights, a row each few steps."""
    settings = recipe.settings
    return 4 * params * 7 + 400 * settings.steps / settings.log_every + 1.5e6


def matched(
    variant: Variant,
    counts: Callable[[Recipe], dict[str, float]],
    base: Recipe,
    match: str,
    knob: str,
    ms: dict[str, float],
) -> Variant:
    """A variant made equal to the baseline in what is to match. Its steps are set (tokens, flops, time), or a knob is
    turned (params); `ms`: milliseconds a step, by name, the baseline's under ""."""
    if match == "params":
        return resized(variant, counts, base, knob)
    each, there = tokens(variant.recipe) / variant.recipe.settings.steps, tokens(base)
    if match == "tokens":
        want = there / each
    elif match == "flops":
        here = counts(variant.recipe)["flops_per_token"]
        want = there * counts(base)["flops_per_token"] / (each * here)
    else:
        want = base.settings.steps * ms[""] / ms[variant.key]
    settled = max(1, round(want))
    if settled == variant.recipe.settings.steps:
        return variant
    return changed(variant, "steps", settled, f"steps={settled}, so that {MATCHED[match]} match")


def tokens(recipe: Recipe) -> int:
    """Tokens of the whole training."""
    return recipe.settings.steps * recipe.settings.batch_size * recipe.settings.model.context


def changed(variant: Variant, knob: str, value: Any, why: str) -> Variant:
    """A variant with a knob set, and why."""
    recipe = altered(variant.recipe, **{knob.replace(".", "__"): value})
    return Variant(variant.name, [*variant.overrides, f"{knob}={value}"], recipe, variant.size, [*variant.told, why])


def resized(variant: Variant, counts: Callable[[Recipe], dict[str, float]], base: Recipe, knob: str) -> Variant:
    """A variant whose knob is turned until its parameters are the baseline's, as nearly as whole numbers allow."""
    want, path = counts(base)["params"], knob.replace(".", "__")
    if abs(counts(variant.recipe)["params"] / want - 1) <= CLOSE / 10:
        return variant
    node: Any = variant.recipe.config
    for part in knob.split("."):
        if not isinstance(node, dict) or part not in node:
            raise Refused(f"match=params: {variant.key} has no resize={knob}; name a knob that all arms have")
        node = node[part]

    def params(value: int) -> float:
        return counts(altered(variant.recipe, **{path: value}))["params"]

    low, high = 1, 2
    while params(high) < want:
        low, high = high, 2 * high
        if high > 2**24:
            raise Refused(f"match=params: {variant.key} does not grow with resize={knob}; name another knob")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if params(middle) < want else (low, middle)
    best = min((low, high), key=lambda value: abs(params(value) - want))
    off = params(best) / want - 1
    if abs(off) > CLOSE:
        raise Refused(
            f"match=params: {variant.key} comes no nearer than {off:+.1%} with {knob}={best}; try another resize="
        )
    return changed(variant, knob, best, f"{knob}={best} so that parameters match ({off:+.2%})")
