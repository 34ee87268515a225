"""design=search: trials instead of arms.

optuna suggests what to try next; a trial is an arm like any other, trained by the same cells, study folder and
launchers, and what was tried before is not trained again.

search.db     optuna's own record, by which a search that was stopped goes on
search.json   the trials: what each was, its loss, or why it was not trained

Slots are suggested first, then those knobs that the chosen parts have. What cannot be composed, or exceeds a limit, is
refused before any training and counts as a trial. A trial's value is its mean loss over the first half of the
validation split (val/loss_select); the second half has no part in the search and judges its arms.
"""

import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from gptlab import compose as wiring
from gptlab.ablation.cells import Variant, hash_without_seed, make_cells
from gptlab.ablation.plan import Plan, estimate_run_times, set_outputs
from gptlab.ablation.question import StudySpec, compose_trial
from gptlab.config.recipe import flatten
from gptlab.errors import Refused
from gptlab.runs.record import read_json, to_json, write_atomically
from gptlab.runs.study_folder import lock_or_owner
from gptlab.stats.labels import read_label
from gptlab.stats.results import SELECT
from gptlab.study import Search

if TYPE_CHECKING:
    import optuna

PROBED_POINTS = 32
"""Points of a large space that are tried before it is called empty."""
RANDOM_TRIALS = 5
"""Random trials before TPE has seen enough."""


def refuse_empty_space(plan: Plan) -> None:
    """Refuse a space of which no point can be trained, and a machine without optuna."""
    try:
        import optuna as optuna
    except ModuleNotFoundError as error:
        raise Refused("design=search needs optuna; run: pip install 'gptlab[search]'") from error
    axes = plan.spec.axes
    probes, trouble = min(PROBED_POINTS, math.prod(map(len, axes.values()))), ""
    draws = random.Random(0)  # a fixed seed: the same command is refused, or not, each time
    for _ in range(probes):
        point = {axis: draws.choice(values) for axis, values in axes.items()}
        try:
            check_limits(plan, compose_point(plan, point))
            return
        except Refused as refused:
            trouble = trouble or str(refused)
    raise Refused(f"design=search: of {probes} points that were looked at none can be trained: {trouble}")


def describe_space(spec: StudySpec) -> str:
    """Return a line on the space that is searched, and how."""
    searches = spec.study.searches(spec.options.sampler, spec.base)
    names = [*dict.fromkeys(search.name for search in searches)]
    repeats = f", {len(searches) // len(names)} times each" if len(searches) > len(names) else ""
    points = math.prod(map(len, spec.axes.values()))
    return f"{spec.options.trials} trials by {', '.join(names)}{repeats}; {len(spec.axes)} axes, {points} points"


def run_searches(plan: Plan, run: Callable[[], None], console: Console) -> None:
    """Train all trials of all searches, unless another process is at it."""
    with lock_or_owner(plan.folder.path / "search.lock") as owner:
        if owner is not None:
            raise Refused(f"{plan.spec.name}: {owner} searches it; wait for that, or give another name=")
        _run_searches(plan, run, console)


def _run_searches(plan: Plan, run: Callable[[], None], console: Console) -> None:
    """Run one search after the other, and write search.json after each."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # in the study's folder: a search that was stopped goes on where its other files are
    with open_record(plan.folder.path.absolute() / "search.db") as record:
        documents: list[dict[str, Any]] = []
        for search in plan.spec.study.searches(plan.spec.options.sampler, plan.spec.base):
            name = f"{search.name} {search.repeat}"
            optuna_study = optuna.create_study(storage=record, study_name=name, load_if_exists=True)
            SearchRun(plan, search, optuna_study, run=run, console=console).run_trials()
            trials = [describe_trial(trial) for trial in optuna_study.get_trials(deepcopy=False)]
            documents.append({**search._asdict(), "trials": trials})
            write_atomically(plan.folder.path / "search.json", to_json(documents, indent=2))
    run()  # so that the study folder holds them all


@contextmanager
def open_record(path: Path) -> "Iterator[optuna.storages.RDBStorage]":
    """Yield optuna's record in a file, and close its connections after, which optuna itself never does."""
    from optuna.storages import RDBStorage

    record = RDBStorage(f"sqlite:///{path}")
    try:
        yield record
    finally:
        record.remove_session()
        record.engine.dispose()


def describe_trial(trial: "optuna.trial.FrozenTrial") -> dict[str, Any]:
    """Return a trial as it is written to search.json."""
    arm, reason = trial.user_attrs.get("arm", ""), trial.user_attrs.get("reason", "")
    return {"number": trial.number, "arm": arm, "loss": trial.value, "reason": reason, "values": trial.params}


class SearchRun:
    """One search of a study."""

    def __init__(
        self, plan: Plan, search: Search, optuna_study: "optuna.Study", *, run: Callable[[], None], console: Console
    ) -> None:
        self.plan, self.search, self.optuna_study = plan, search, optuna_study
        self.run, self.console = run, console
        points = math.prod(map(len, plan.spec.axes.values()))
        trials = plan.spec.options.trials
        self.trial_count = min(trials, points) if search.sampler == "grid" else trials

    def run_trials(self) -> None:
        """Run trials until there are enough; those that were interrupted come first."""
        # trials of optuna's record become arms again, and so find their finished runs
        for trial in self.optuna_study.trials:  # of an earlier command
            if trial.state.is_finished() and "arm" in trial.user_attrs:
                self.add_arm(compose_point(self.plan, trial.params, self.search))
        while (missing := self.trial_count - self.count_finished_trials()) > 0:
            batch = self.find_interrupted_trials()[:missing]
            while len(batch) < min(self.count_trials_at_once(), missing):
                # its random state is not in the database, so it is derived from the trial's number
                self.optuna_study.sampler = self.make_sampler(len(self.optuna_study.trials))
                batch.append(self.optuna_study.ask())
            self.train_batch([(trial, self.suggest_arm(trial)) for trial in batch])

    def count_finished_trials(self) -> int:
        """Return how many trials are over, those that could not be trained among them."""
        return sum(trial.state.is_finished() for trial in self.optuna_study.trials)

    def count_trials_at_once(self) -> int:
        """Return how many trials are suggested before the next ones end.

        TPE learns from those that have ended: with jobs=auto it is one, so that a machine's cores change no search.
        """
        options = self.plan.spec.options
        return 1 if self.plan.pooled and options.jobs == "auto" else self.plan.jobs

    def find_interrupted_trials(self) -> "list[optuna.Trial]":
        """Return trials that another process began and did not end."""
        import optuna

        running = [trial for trial in self.optuna_study.trials if trial.state == optuna.trial.TrialState.RUNNING]
        # optuna has no public way back to a trial that can still be told its value
        return [optuna.Trial(self.optuna_study, trial._trial_id) for trial in running]

    def make_sampler(self, number: int) -> "optuna.samplers.BaseSampler":
        """Return the sampler of one trial, seeded by its number.

        A search that was stopped so goes on as if it had not been.
        """
        from optuna import samplers

        seed = 10_000 * self.search.repeat + number
        if self.search.sampler == "grid":
            sampler = samplers.GridSampler(self.plan.spec.axes, seed=self.search.repeat)
            sampler.after_trial = lambda *_: None  # type: ignore[method-assign]  # it stops optimize(), unused here
            return sampler
        if self.search.sampler == "random":
            return samplers.RandomSampler(seed=seed)
        return samplers.TPESampler(
            seed=seed, n_startup_trials=RANDOM_TRIALS, constant_liar=self.count_trials_at_once() > 1
        )

    def suggest_arm(self, trial: "optuna.Trial") -> Variant | None:
        """Return the arm of a trial; None, with a reason noted, if it cannot be trained."""
        self.optuna_study.sampler = self.make_sampler(trial.number)
        axes = self.plan.spec.axes
        # slots first: which knobs there are depends on them
        values = {axis: trial.suggest_categorical(axis, axes[axis]) for axis in axes if "." not in axis}
        try:
            knobs = find_knobs(self.plan, values)
            rest = [axis for axis in axes if axis not in values and (axis in knobs or self.search.sampler == "grid")]
            values |= {axis: trial.suggest_categorical(axis, axes[axis]) for axis in rest}
            variant = compose_point(self.plan, {axis: values[axis] for axis in axes if axis in values}, self.search)
            check_limits(self.plan, variant)
        except Refused as refused:
            trial.set_user_attr("reason", str(refused))
            return None
        trial.set_user_attr("arm", variant.name)
        return variant

    def add_arm(self, variant: Variant) -> Variant:
        """Make a variant an arm of the study, or return the arm that is the same already."""
        plan, identity = self.plan, hash_without_seed(variant.recipe)
        for known in plan.variants:
            if hash_without_seed(known.recipe) == identity:
                return known
        plan.variants.append(variant)
        plan.add_cells(make_cells(plan.spec.options, [set_outputs(variant, plan)]))
        base = next(iter(plan.spec.baselines.values())).key
        plan.counts[variant.key] = plan.costs.count_costs(variant.recipe)
        share = plan.counts[variant.key]["flops_per_token"] / plan.counts[base]["flops_per_token"]
        # not timed: a trial is one of many, and its bill an estimate
        plan.step_ms[variant.key] = plan.step_ms[base] * share
        estimate_run_times(plan)
        return variant

    def train_batch(self, batch: "list[tuple[optuna.Trial, Variant | None]]") -> None:
        """Train what has not been trained, and tell optuna; what failed is tried once more."""
        from optuna.trial import TrialState

        arms = {trial.number: self.add_arm(variant) for trial, variant in batch if variant is not None}
        for trial, _ in batch:
            if trial.number in arms:
                trial.set_user_attr("arm", arms[trial.number].name)
        outcomes: dict[int, tuple[float | None, str]] = {}
        # once more, since a failure may be the machine's; a second one is the trial's
        for _ in range(2):
            self.plan.refresh()
            if self.plan.to_run():
                self.run()
            outcomes = {number: mean_selection_loss(self.plan, variant) for number, variant in arms.items()}
            if all(state != "failed" for _, state in outcomes.values()):
                break
        for trial, _ in batch:
            value, state = outcomes.get(trial.number, (None, "refused"))
            if value is None and state != "refused":
                trial.set_user_attr("reason", state)
            # pruned where it cannot be trained or diverged: TPE then avoids its neighbourhood
            final_state = {"failed": TrialState.FAIL, "finished": TrialState.COMPLETE}.get(state, TrialState.PRUNED)
            self.optuna_study.tell(trial, value, state=final_state)
            self.print_trial(trial, value)

    def print_trial(self, trial: "optuna.Trial", value: float | None) -> None:
        """Print the line of a trial that is over."""
        attrs = self.optuna_study.trials[trial.number].user_attrs
        losses = [other.value for other in self.optuna_study.trials if other.value is not None]
        outcome = f"loss {value:.4f}" if value is not None else f"not trained: {attrs.get('reason')}"
        best = f", best {min(losses):.4f}" if losses else ""
        line = f"  {self.search.name} {trial.number + 1}/{self.trial_count}  {outcome}{best}  {attrs.get('arm', '')}"
        self.console.print(line, markup=False, soft_wrap=True)


def find_knobs(plan: Plan, values: dict[str, Any]) -> frozenset[str]:
    """Return the knobs that exist with the slots' choices of a point."""
    slots = tuple(f"{key}={value}" for key, value in values.items() if "." not in key)
    return compose_knobs(tuple(plan.spec.shared), slots)


@cache
def compose_knobs(shared: tuple[str, ...], words: tuple[str, ...]) -> frozenset[str]:
    """Return the knobs of a command line."""
    return frozenset(flatten(wiring.compose_config([*shared, *words])[1]))


def compose_point(plan: Plan, values: dict[str, Any], search: Search | None = None) -> Variant:
    """Return the arm of a point; raise Refused if it cannot be composed."""
    knobs = find_knobs(plan, values)
    present = {axis: value for axis, value in values.items() if "." not in axis or axis in knobs}
    words = [f"{axis}={value}" for axis, value in present.items()]
    search_words, label = (search.words, search.label) if search else ((), "")
    arm_values = tuple((axis, str(value)) for axis, value in present.items())
    return compose_trial(plan.spec, (*arm_values, *read_label(label)), [*words, *search_words])


def check_limits(plan: Plan, variant: Variant) -> None:
    """Refuse a variant that exceeds a limit."""
    limits = plan.spec.options.limits or {}
    counts: dict[str, float] = dict(plan.costs.count_costs(variant.recipe)) if limits else {}
    if "step_ms" in limits:
        counts |= {"step_ms": plan.costs.time_steps({"": variant.recipe})[""]}
    for limit, most in limits.items():
        if counts[limit] > most:
            raise Refused(f"{variant.name}: {limit}={counts[limit]:,.4g} exceeds {most:,.4g}")


def mean_selection_loss(plan: Plan, variant: Variant) -> tuple[float | None, str]:
    """Return an arm's mean loss over seeds on the half that selects, and how its runs ended."""
    plan.refresh()
    keys = [key for key, cell in plan.cells.items() if cell.variant.name == variant.name]
    if not plan.finished_runs.keys() >= {*keys}:
        return None, "failed"
    summaries = [read_json(plan.finished_runs[key] / "summary.json") for key in keys]
    if any(summary["status"] != "finished" for summary in summaries):
        return None, "diverged"
    return sum(summary[SELECT] for summary in summaries) / len(summaries), "finished"
