"""design=search: trials instead of arms. optuna suggests what to try next; a trial is an arm like any other, trained by
the same cells, ledger and launchers, and what was tried before is not trained again.

search.db     optuna's own record, by which a search that was stopped goes on
search.json   the trials: what each was, its loss, or why it was not trained

Slots are suggested first, then those knobs that the chosen parts have. What cannot be composed, or exceeds a limit, is
refused before any training and counts as a trial. A trial's worth is its mean loss over the first half of the
validation split (val/loss_select); the second half has no part in the search and judges its arms.
"""

import math
import random
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from rich.console import Console

from gptlab import compose as wiring
from gptlab.ablation.cells import Variant, cells, signature
from gptlab.ablation.plan import Plan, at_home, estimate
from gptlab.ablation.question import Question
from gptlab.ablation.question import trial as composed
from gptlab.config.recipe import flat
from gptlab.errors import Refused
from gptlab.runs.record import dump, read, write
from gptlab.runs.study_folder import locked
from gptlab.stats.results import SELECT
from gptlab.study import Search

if TYPE_CHECKING:
    import optuna

LOOKED = 32
"""Points of a large space that are looked at before it is called empty."""
STARTUP = 5
"""Trials at random before TPE has seen enough."""


def refuse_empty(made: Plan) -> None:
    """Refuses a space of which no point can be trained, and a machine without optuna."""
    try:
        import optuna as optuna
    except ModuleNotFoundError as error:
        raise Refused("design=search needs optuna; run: pip install 'gptlab[search]'") from error
    axes = made.question.axes
    looked, draws, trouble = min(LOOKED, math.prod(map(len, axes.values()))), random.Random(0), ""
    for _ in range(looked):
        try:
            keep_within(made, tried(made, {axis: draws.choice(values) for axis, values in axes.items()}))
            return
        except Refused as refused:
            trouble = trouble or str(refused)
    raise Refused(f"design=search: of {looked} points that were looked at none can be trained: {trouble}")


def space(question: Question) -> str:
    """What is to be searched, and how, in words."""
    searches = question.study.searches(question.asked.sampler, question.base)
    names = [*dict.fromkeys(one.name for one in searches)]
    each = f", {len(searches) // len(names)} times each" if len(searches) > len(names) else ""
    points = math.prod(map(len, question.axes.values()))
    return f"{question.asked.trials} trials by {', '.join(names)}{each}; {len(question.axes)} axes, {points} points"


def explore(made: Plan, run: Callable[[], None], console: Console) -> None:
    """Has all trials of all searches trained, unless another process is at it."""
    with locked(made.ledger.folder / "search.lock") as owner:
        if owner is not None:
            raise Refused(f"{made.question.name}: {owner} searches it; wait for that, or give another name=")
        _explore(made, run, console)


def _explore(made: Plan, run: Callable[[], None], console: Console) -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = f"sqlite:///{made.ledger.folder.absolute() / 'search.db'}"
    told: list[dict[str, Any]] = []
    for one in made.question.study.searches(made.question.asked.sampler, made.question.base):
        found = optuna.create_study(storage=storage, study_name=f"{one.name} {one.repeat}", load_if_exists=True)
        Searching(made, one, found, run, console).on()
        told.append({**one._asdict(), "trials": [plain(trial) for trial in found.get_trials(deepcopy=False)]})
        write(made.ledger.folder / "search.json", dump(told, indent=2))
    run()  # so that the ledger holds them all


def plain(trial: "optuna.trial.FrozenTrial") -> dict[str, Any]:
    """A trial as it is written."""
    arm, reason = (trial.user_attrs.get(key, "") for key in ("arm", "reason"))
    return {"number": trial.number, "arm": arm, "loss": trial.value, "reason": reason, "values": trial.params}


class Searching:
    """One search of a study."""

    def __init__(
        self, made: Plan, one: Search, found: "optuna.Study", run: Callable[[], None], console: Console
    ) -> None:
        self.made, self.one, self.found, self.run, self.console = made, one, found, run, console
        points = math.prod(map(len, made.question.axes.values()))
        trials = made.question.asked.trials
        self.wanted = min(trials, points) if one.sampler == "grid" else trials

    def on(self) -> None:
        """Goes on until there are enough trials; those that were cut short come first."""
        for one in self.found.trials:  # of an earlier command
            if one.state.is_finished() and "arm" in one.user_attrs:
                self.join(tried(self.made, one.params, self.one))
        while (left := self.wanted - sum(one.state.is_finished() for one in self.found.trials)) > 0:
            batch = self.begun()[:left]
            while len(batch) < min(self.made.jobs, left):
                self.found.sampler = self.sampler(len(self.found.trials))
                batch.append(self.found.ask())
            self.judge([(trial, self.suggested(trial)) for trial in batch])

    def begun(self) -> "list[optuna.Trial]":
        """Trials that another process began and did not end."""
        import optuna

        running = [one for one in self.found.trials if one.state == optuna.trial.TrialState.RUNNING]
        return [optuna.Trial(self.found, one._trial_id) for one in running]

    def sampler(self, number: int) -> "optuna.samplers.BaseSampler":
        """For one trial: seeded by its number, so that a search which was stopped goes on as if it had not been."""
        from optuna import samplers

        seed = 10_000 * self.one.repeat + number
        if self.one.sampler == "grid":
            return samplers.GridSampler(self.made.question.axes, seed=self.one.repeat)
        if self.one.sampler == "random":
            return samplers.RandomSampler(seed=seed)
        return samplers.TPESampler(seed=seed, n_startup_trials=STARTUP, constant_liar=self.made.jobs > 1)

    def suggested(self, trial: "optuna.Trial") -> Variant | None:
        """The arm of a trial; none, with a reason, if it cannot be trained."""
        self.found.sampler = self.sampler(trial.number)
        axes = self.made.question.axes
        values = {axis: trial.suggest_categorical(axis, axes[axis]) for axis in axes if "." not in axis}
        try:
            there = present(self.made, values)
            rest = [axis for axis in axes if axis not in values and (axis in there or self.one.sampler == "grid")]
            values |= {axis: trial.suggest_categorical(axis, axes[axis]) for axis in rest}
            variant = tried(self.made, {axis: values[axis] for axis in axes if axis in values}, self.one)
            keep_within(self.made, variant)
        except Refused as refused:
            trial.set_user_attr("reason", str(refused))
            return None
        trial.set_user_attr("arm", variant.name)
        return variant

    def join(self, variant: Variant) -> Variant:
        """Makes it an arm of the study, or gives the arm that is the same already."""
        made, mine = self.made, signature(variant.recipe)
        for one in made.variants:
            if signature(one.recipe) == mine:
                return one
        made.variants.append(variant)
        made.add(cells(made.question.asked, [at_home(variant, made)]))
        base = next(iter(made.question.baselines.values())).key
        made.counts[variant.key] = made.costs.counts(variant.recipe)
        share = made.counts[variant.key]["flops_per_token"] / made.counts[base]["flops_per_token"]
        made.step_ms[variant.key] = made.step_ms[base] * share
        estimate(made)
        return variant

    def judge(self, batch: "list[tuple[optuna.Trial, Variant | None]]") -> None:
        """Trains what has not been trained, and tells optuna; what failed is tried once more."""
        from optuna.trial import TrialState

        arms = {trial.number: self.join(variant) for trial, variant in batch if variant is not None}
        for trial, _ in batch:
            if trial.number in arms:
                trial.set_user_attr("arm", arms[trial.number].name)
        worths: dict[int, tuple[float | None, str]] = {}
        for _ in range(2):
            self.made.look()
            if self.made.to_run():
                self.run()
            worths = {number: worth(self.made, variant) for number, variant in arms.items()}
            if all(state != "failed" for _, state in worths.values()):
                break
        for trial, _ in batch:
            value, state = worths.get(trial.number, (None, "refused"))
            if value is None and state != "refused":
                trial.set_user_attr("reason", state)
            ended = {"failed": TrialState.FAIL, "finished": TrialState.COMPLETE}.get(state, TrialState.PRUNED)
            self.found.tell(trial, value, state=ended)
            self.say(trial, value)

    def say(self, trial: "optuna.Trial", value: float | None) -> None:
        """A line for a trial that is over."""
        attrs = self.found.trials[trial.number].user_attrs
        losses = [one.value for one in self.found.trials if one.value is not None]
        said = f"loss {value:.4f}" if value is not None else f"not trained: {attrs.get('reason')}"
        best = f", best {min(losses):.4f}" if losses else ""
        line = f"  {self.one.name} {trial.number + 1}/{self.wanted}  {said}{best}  {attrs.get('arm', '')}"
        self.console.print(line, markup=False, soft_wrap=True)


def present(made: Plan, values: dict[str, Any]) -> frozenset[str]:
    """The knobs that there are with the slots' choices of a point."""
    return knobs(tuple(made.question.shared), tuple(f"{key}={one}" for key, one in values.items() if "." not in key))


@cache
def knobs(shared: tuple[str, ...], words: tuple[str, ...]) -> frozenset[str]:
    """Those of a command line."""
    return frozenset(flat(wiring.composed([*shared, *words])[1]))


def tried(made: Plan, values: dict[str, Any], one: Search | None = None) -> Variant:
    """The arm of a point; raises Refused if it cannot be composed."""
    there = present(made, values)
    kept = {axis: value for axis, value in values.items() if "." not in axis or axis in there}
    words = [f"{axis}={value}" for axis, value in kept.items()]
    more, label = (one.words, one.label) if one else ((), "")
    return composed(made.question, " ".join([*words, label]).strip() or "default", [*words, *more])


def keep_within(made: Plan, variant: Variant) -> None:
    """Refuses what exceeds a limit."""
    limits = made.question.asked.limits or {}
    counts: dict[str, float] = dict(made.costs.counts(variant.recipe)) if limits else {}
    if "step_ms" in limits:
        counts |= {"step_ms": made.costs.step_ms({"": variant.recipe})[""]}
    for limit, most in limits.items():
        if counts[limit] > most:
            raise Refused(f"{variant.name}: {limit}={counts[limit]:,.4g} exceeds {most:,.4g}")


def worth(made: Plan, variant: Variant) -> tuple[float | None, str]:
    """Its mean loss over seeds on the half by which is chosen, and how its runs ended."""
    made.look()
    mine = [key for key, cell in made.cells.items() if cell.variant.name == variant.name]
    if not made.over.keys() >= {*mine}:
        return None, "failed"
    found = [read(made.over[key] / "summary.json") for key in mine]
    if any(one["status"] != "finished" for one in found):
        return None, "diverged"
    return sum(one[SELECT] for one in found) / len(found), "finished"
