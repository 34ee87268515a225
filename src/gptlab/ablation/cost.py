"""Cost of a recipe before it is trained, and arms matched in cost.

Parameters, FLOPs and cache are counted on a decoder without memory; a few steps are timed.
"""

from collections.abc import Callable
from typing import Any

from gptlab.ablation.cells import Adjustment, Variant
from gptlab.config.recipe import Recipe, set_values
from gptlab.errors import Refused
from gptlab.training.build import build_on_meta
from gptlab.training.cost.run_time import (
    STEP_PER_FORWARD,
    TaskWork,
    count_task_work,
    estimate_run_time,
    limit_training,
)

STARTUP_S = 2.0
"""Seconds to open and close a run, W&B's mirror included."""
MATCHED_QUANTITY = {"tokens": "tokens", "flops": "training FLOPs", "time": "seconds of training"}
PARAMETER_TOLERANCE = 0.005
"""Relative difference up to which parameters match."""


MAX_TIMED_ARMS = 8
"""Arms up to which each is timed for the bill, two seconds at most; of more the baselines are."""


class CostEstimator:
    """Counts and times recipes. Every text is read once."""

    def __init__(self) -> None:
        self.corpora: Any = None  # a CorpusCache, imported late
        self.cached_counts: dict[str, dict[str, float]] = {}
        self.cached_work: dict[str, TaskWork] = {}

    def load_corpus(self, recipe: Recipe) -> Any:
        """Return the corpus of a recipe."""
        from gptlab.corpus.load import CorpusCache

        self.corpora = self.corpora or CorpusCache()
        return self.corpora.load(recipe)

    def count_costs(self, recipe: Recipe) -> dict[str, float]:
        """Return parameters, FLOPs to train on a token, and cache bytes a token."""
        # cells of one arm differ by the seed alone, and a search counts an arm again for its limits
        if recipe.hash not in self.cached_counts:
            from gptlab.model import costs

            counts = costs.count_costs(build_on_meta(recipe, self.load_corpus(recipe).tokenizer.vocab))
            self.cached_counts[recipe.hash] = counts._asdict()
        return self.cached_counts[recipe.hash]

    def count_task_work(self, recipe: Recipe) -> TaskWork:
        """Return the work of scoring a recipe's downstream tasks; raise Refused for a text that cannot be scored."""
        context = recipe.settings.model.context
        # arms of one text and tokenizer have the same tokens, which take a while to be made of large files
        key = repr([*(recipe.config.get(name) for name in ("metric", "data", "tokenizer", "content")), context])
        if key not in self.cached_work:
            from gptlab.training.metric import build_task_metrics

            metrics = build_task_metrics(recipe.config["metric"], self.load_corpus(recipe).tokenizer)
            self.cached_work[key] = count_task_work(metrics.values(), context)
        return self.cached_work[key]

    def time_steps(self, recipes: dict[str, Recipe], rounds: int = 5) -> dict[str, float]:
        """Return milliseconds of a training step of each recipe, interleaved.

        The minimum over rounds, since neighbours on the machine only add.
        """
        from gptlab.study.tools.timing import TrainingBench, time_interleaved

        steps: dict[str, Callable[[], None]] = {}
        for name, recipe in recipes.items():
            steps[name] = TrainingBench(recipe, self.load_corpus(recipe)).step
        times = time_interleaved(steps, 2.0 * len(steps), rounds)  # two seconds each
        return {name: min(ms) for name, ms in times.items()}

    def time_or_estimate_steps(self, recipes: dict[str, Recipe], baselines: dict[str, str]) -> dict[str, float]:
        """Return milliseconds of a step of each recipe: of few timed, of many the baseline's in proportion to FLOPs.

        baselines  name of the baseline of each recipe
        """
        if len(recipes) <= MAX_TIMED_ARMS:
            return self.time_steps(recipes)
        # in proportion to FLOPs: off by what a kernel gains or loses, which a bill can bear (it says `about`)
        step_ms = self.time_steps({name: recipes[name] for name in dict.fromkeys(baselines.values())})
        flops = {name: self.count_step_flops(recipe) for name, recipe in recipes.items()}
        return {name: step_ms[baselines[name]] * flops[name] / flops[baselines[name]] for name in recipes}

    def count_step_flops(self, recipe: Recipe) -> float:
        """Return the matmul FLOPs of a training step."""
        return self.count_costs(recipe)["flops_per_token"] * recipe.settings.batch_size * recipe.settings.model.context

    def estimate_seconds(self, recipe: Recipe, step_ms: float, shared_steps: int = 0) -> float:
        """Return about how many seconds a run takes, from its start to its end, without those of a trunk."""
        steps = recipe.config["steps"] - shared_steps
        settings, step_s = set_values(recipe, steps=steps).settings, step_ms / 1000
        time = estimate_run_time(
            settings,
            step_s=step_s,
            forward_s=step_s / STEP_PER_FORWARD / (settings.batch_size * settings.model.context),
            validation_tokens=len(self.load_corpus(recipe).validation),
            tasks=self.count_task_work(recipe),
        )
        if (minutes := settings.max_minutes) is None:
            return time.total_s + STARTUP_S
        # each cell would find it too short, after all that comes before its first step
        limit_training(minutes, spent_s=0, final_s=time.final_s, step_s=step_s)
        return min(time.total_s + STARTUP_S, minutes * 60)


def estimate_disk_use(params: float, recipe: Recipe) -> float:
    """Return the bytes that a run leaves: weights and two moments twice, the best weights, a row each few steps."""
    settings = recipe.settings
    # float32: last, previous and each branch point hold 3 x params, best 1; 400 bytes a row; 1.5 MB for evaluation,
    # samples and log
    return 4 * params * (7 + 3 * len(settings.branches)) + 400 * settings.steps / settings.log_every + 1.5e6


def match_to_baseline(
    variant: Variant,
    base: Recipe,
    match: str,
    *,
    counts: Callable[[Recipe], dict[str, float]],
    resize: str = "",
    step_ms: tuple[float, float] | None = None,
) -> Variant:
    """Return a variant made equal to the baseline in `match`: tokens, flops, time, or params.

    Its steps are set, or for params the knob `resize`.

    counts   returns the costs of a recipe
    step_ms  milliseconds of a step of the variant and of the baseline, for time
    """
    if match == "params":
        return match_parameters(variant, counts, base, resize)
    tokens_per_step = count_training_tokens(variant.recipe) / variant.recipe.settings.steps
    baseline_tokens = count_training_tokens(base)
    if match == "tokens":
        wanted_steps = baseline_tokens / tokens_per_step
    elif match == "flops":
        flops = counts(variant.recipe)["flops_per_token"]
        wanted_steps = baseline_tokens * counts(base)["flops_per_token"] / (tokens_per_step * flops)
    else:
        # as long on the clock: evaluations and start are the same for all, and left out
        assert step_ms is not None
        wanted_steps = base.settings.steps * step_ms[1] / step_ms[0]
    steps = max(1, round(wanted_steps))
    if steps == variant.recipe.settings.steps:
        return variant
    return set_knob(variant, "steps", steps, f"steps={steps}, so that {MATCHED_QUANTITY[match]} match")


def count_training_tokens(recipe: Recipe) -> int:
    """Return the tokens of the whole training."""
    return recipe.settings.steps * recipe.settings.batch_size * recipe.settings.model.context


def set_knob(variant: Variant, knob: str, value: Any, reason: str) -> Variant:
    """Return a variant with a knob set, and the reason noted."""
    recipe = set_values(variant.recipe, **{knob.replace(".", "__"): value})
    return Variant(
        values=variant.values,
        overrides=[*variant.overrides, f"{knob}={value}"],
        recipe=recipe,
        size=variant.size,
        adjustments=[*variant.adjustments, Adjustment(knob, value, reason)],
    )


def match_parameters(
    variant: Variant, counts: Callable[[Recipe], dict[str, float]], base: Recipe, knob: str
) -> Variant:
    """Return a variant whose `knob` makes its parameters the baseline's, as nearly as whole numbers allow."""
    target, path = counts(base)["params"], knob.replace(".", "__")
    # near enough as it is: a knob off its default is one more difference between the arms
    if abs(counts(variant.recipe)["params"] / target - 1) <= PARAMETER_TOLERANCE / 10:
        return variant
    node: Any = variant.recipe.config
    for part in knob.split("."):
        if not isinstance(node, dict) or part not in node:
            raise Refused(f"match=params: {variant.key} has no resize={knob}; name a knob that all arms have")
        node = node[part]

    def count_parameters(value: int) -> float:
        return counts(set_values(variant.recipe, **{path: value}))["params"]

    # parameters grow with the knob: double it until they are beyond, then halve the gap
    low, high = 1, 2
    while count_parameters(high) < target:
        low, high = high, 2 * high
        if high > 2**24:
            raise Refused(f"match=params: {variant.key} does not grow with resize={knob}; name another knob")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count_parameters(middle) < target else (low, middle)
    best = min((low, high), key=lambda value: abs(count_parameters(value) - target))
    deviation = count_parameters(best) / target - 1
    if abs(deviation) > PARAMETER_TOLERANCE:
        raise Refused(
            f"match=params: {variant.key} comes no nearer than {deviation:+.2%} with {knob}={best}, "
            f"and up to {PARAMETER_TOLERANCE:.1%} is equal; try another resize="
        )
    return set_knob(variant, knob, best, f"{knob}={best} so that parameters match ({deviation:+.2%})")
