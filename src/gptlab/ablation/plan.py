"""StudySpec to a plan: arms matched, cells made, finished runs found, and the bill."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from gptlab.ablation import bill
from gptlab.ablation.arms.birth import describe_feeds
from gptlab.ablation.arms.idle import describe_idle_arms
from gptlab.ablation.arms.rates import describe_untuned_rates
from gptlab.ablation.cells import (
    Cell,
    Variant,
    drop_duplicates,
    make_baseline_cells,
    make_cells,
    refuse_shared_cells,
)
from gptlab.ablation.cost import (
    MAX_TIMED_ARMS,
    CostEstimator,
    count_training_tokens,
    estimate_disk_use,
    match_to_baseline,
    set_knob,
)
from gptlab.ablation.jobs import choose_jobs, estimate_cell_memory, estimate_wall_time, limit_by_memory
from gptlab.ablation.ladder import climb, trunks
from gptlab.ablation.pool import start_server
from gptlab.ablation.protocol.repeated import describe_repeated_comparisons
from gptlab.ablation.question import StudySpec
from gptlab.config.recipe import flatten
from gptlab.errors import Refused
from gptlab.runs.outputs import count_free_bytes
from gptlab.runs.record import REMEDY, read_json
from gptlab.runs.study_folder import TERMINAL_STATES, StudyFolder
from gptlab.stats.matching import describe_mismatch


@dataclass
class Plan:
    """A study about to run.

    finished_runs  run folder of each cell that is done, by the cell's key
    jobs           cells at once; `pooled`: in our own worker processes, not by one of hydra's launchers
    counts         parameters, FLOPs and cache bytes by arm
    step_ms        probed milliseconds a step, by arm; `estimated`: the arms for which it was only reckoned
    run_seconds    estimated seconds of each cell that is not done
    """

    spec: StudySpec
    folder: StudyFolder
    jobs: int
    pooled: bool = False
    costs: CostEstimator = field(default_factory=CostEstimator)
    variants: list[Variant] = field(default_factory=list)
    cells: dict[str, Cell] = field(default_factory=dict)
    finished_runs: dict[str, Path] = field(default_factory=dict)
    counts: dict[str, dict[str, float]] = field(default_factory=dict)
    step_ms: dict[str, float] = field(default_factory=dict)
    estimated: set[str] = field(default_factory=set)
    run_seconds: dict[str, float] = field(default_factory=dict)
    mismatch: list[str] = field(default_factory=list)
    feed: list[str] = field(default_factory=list)  # what is odd about arms at birth, and what does little in them
    notes: list[str] = field(default_factory=list)  # about how it is run

    @property
    def baselines(self) -> dict[str, Variant]:
        """The matched variants that are baselines, by size."""
        by_key = {variant.key: variant for variant in self.variants}
        return {size: by_key[baseline.key] for size, baseline in self.spec.baselines.items()}

    def add_cells(self, cells: list[Cell]) -> None:
        """Add cells, and find which of them are done."""
        added = {cell.key: cell for cell in drop_duplicates(cells)}
        recipes = {key: cell.recipe for key, cell in added.items()}
        self.cells = trunks.link_trunks(self.cells | added)
        self.finished_runs |= self.folder.find_finished_runs(recipes, self.spec.options.reuse)

    def refresh(self) -> None:
        """Add the runs that have finished meanwhile."""
        states = self.folder.read_states()
        for key in self.cells:
            if key in states and states[key].status in TERMINAL_STATES:
                self.finished_runs[key] = self.folder.pool / states[key].run

    def to_run(self) -> list[str]:
        """Return the keys of the cells that are not done."""
        return [key for key in self.cells if key not in self.finished_runs]


def make_plan(spec: StudySpec, launcher_jobs: int | None) -> Plan:
    """Match the arms, find what is done, count and time the rest.

    launcher_jobs  how many cells hydra's launcher runs at once; None: they run in our own pool
    """
    plan = Plan(spec, open_study_folder(spec), launcher_jobs or 1, pooled=launcher_jobs is None)
    if not plan.pooled and spec.options.jobs != "auto":
        raise Refused(f"jobs={spec.options.jobs} does not go with a hydra/launcher, which has its own; leave one out")
    if plan.pooled:
        plan.jobs = choose_jobs(spec.options.jobs, [variant.recipe for variant in spec.variants])
    climb.set_rung_steps(plan)
    plan.variants = match_variants(plan)
    for size, baseline in plan.baselines.items():
        refuse_shared_cells(spec.options, baseline, [variant for variant in plan.variants if variant.size == size])
    plan.add_cells(make_cells(spec.options, [set_outputs(variant, plan) for variant in plan.variants]))
    if spec.options.tune == "shared":  # else at a rate that is not known yet
        cells = []
        for variant in plan.baselines.values():
            cells += make_baseline_cells(spec.options, set_outputs(variant, plan))
        plan.add_cells(cells)
    plan.notes += describe_repeated_comparisons(plan)
    # its imports take seconds, and go on while the costs below are counted
    if plan.pooled and min(plan.jobs, len(plan.to_run())) > 1 and not spec.options.dry_run:
        start_server()
    count_costs(plan)
    if plan.pooled and plan.to_run():
        _limit_jobs_by_memory(plan)
    return plan


def _limit_jobs_by_memory(plan: Plan) -> None:
    """Lower the jobs to what fits into memory, judged by the steps that this process has taken, and note it."""
    import torch

    from gptlab.training.cost.memory import peak_bytes

    parameters = [plan.counts[variant.key]["params"] for variant in plan.variants]
    need = estimate_cell_memory(parameters, peak_bytes(torch.device("cpu")))
    plan.jobs, note = limit_by_memory(plan.jobs, need)
    plan.notes += [note] if note else []


def open_study_folder(spec: StudySpec) -> StudyFolder:
    """Return the folder of a study, whether it exists or not."""
    return StudyFolder(Path(spec.outputs).absolute() / "ablations" / spec.name)


def match_variants(plan: Plan) -> list[Variant]:
    """Return the arms matched in what was asked for; as they were matched before, if this study has begun."""
    spec, costs = plan.spec, plan.costs
    match, first = spec.options.match, next(iter(spec.baselines.values()))
    # not matched anew: timings differ, and steps would with them, so that no run could be reused
    settled = plan.folder.plan.settled if (plan.folder.path / "study.json").exists() else {}
    ms: dict[str, float] = {}
    matched = []
    for variant in spec.variants:
        base = spec.baselines[variant.size]
        if variant.key in settled:
            for knob, value, reason in settled[variant.key]:
                if knob not in flatten(variant.recipe.config):
                    path = plan.folder.path / "study.json"
                    raise Refused(f"{path} sets {knob} of {variant.key}, which has no such knob; {REMEDY}")
                variant = set_knob(variant, knob, value, reason)
        # arms of other batch or context sizes would otherwise see more text
        elif match == "tokens":
            # rungs and tasks have as many as their own baseline, sizes that are an axis as the first one
            reference = base.recipe if spec.options.ladder or spec.options.tasks else first.recipe
            if not _says_steps(variant, spec) and count_training_tokens(variant.recipe) != count_training_tokens(
                reference
            ):
                variant = match_to_baseline(variant, reference, match, counts=costs.count_costs)
        elif variant is not base:
            # 15 rounds, since their minimum decides how many steps an arm gets
            if match == "time" and not ms:
                ms = costs.time_steps({candidate.key: candidate.recipe for candidate in spec.variants}, rounds=15)
            variant = match_to_baseline(
                variant,
                base.recipe,
                match,
                counts=costs.count_costs,
                resize=spec.options.resize,
                step_ms=(ms[variant.key], ms[base.key]) if ms else None,
            )
        matched.append(variant)
    return matched


def _says_steps(variant: Variant, spec: StudySpec) -> bool:
    """Whether an arm itself, and not its task, says how many steps it has: these are the question then."""
    of_task = spec.options.tasks[variant.size] if isinstance(spec.options.tasks, dict) else []
    return any(word.startswith("steps=") for word in variant.overrides[len(spec.shared) + len(of_task) :])


def set_outputs(variant: Variant, plan: Plan) -> Variant:
    """Return a variant whose runs go to this study's outputs, and to its group in W&B."""
    config = variant.recipe.config
    tracking = {**config["tracking"], "group": config["tracking"]["group"] or plan.spec.name}
    home = {**config, "outputs": str(plan.folder.outputs), "tracking": tracking}
    return replace(variant, recipe=replace(variant.recipe, config=home))


def count_costs(plan: Plan) -> None:
    """Fill in what each arm costs.

    If all is done, this is from its runs; else it is counted and timed here, all arms interleaved.
    """
    for variant in plan.variants:
        summaries = _read_finished_summaries(plan, variant)
        if summaries:  # what has run says what it costs
            plan.counts[variant.key] = {key: summaries[0][key] for key in COUNTED if key in summaries[0]}
            plan.step_ms[variant.key] = summaries[0]["time/step_ms_median"]
        else:
            plan.counts[variant.key] = plan.costs.count_costs(variant.recipe)
    for key in plan.to_run():  # for its refusals, before seconds of timing
        plan.costs.count_task_work(plan.cells[key].recipe)
    # all in one session: times of different moments on a shared machine make no ratio
    if plan.to_run() or len(plan.step_ms) < len(plan.variants):
        recipes = {variant.key: variant.recipe for variant in plan.variants}
        baselines = {variant.key: plan.baselines[variant.size].key for variant in plan.variants}
        plan.step_ms = plan.costs.time_or_estimate_steps(recipes, baselines)
        plan.estimated = {*recipes} - {*baselines.values()} if len(recipes) > MAX_TIMED_ARMS else set()
    estimate_run_times(plan)
    if plan.to_run():  # looking costs torch and seconds
        plan.feed = [*describe_untuned_rates(plan), *describe_feeds(plan), *describe_idle_arms(plan)]
    plan.mismatch = [line for size in plan.spec.baselines for line in _describe_mismatch_of_size(plan, size)]


def _read_finished_summaries(plan: Plan, variant: Variant) -> list[dict[str, Any]]:
    summaries = []
    for key, cell in plan.cells.items():
        if cell.variant.key == variant.key and key in plan.finished_runs:
            summaries.append(read_json(plan.finished_runs[key] / "summary.json"))
    return [summary for summary in summaries if summary["status"] == "finished"]


COUNTED = ("params", "params_active", "flops_per_token", "cache_bytes_per_token")


def estimate_run_times(plan: Plan) -> None:
    """Estimate the seconds of each cell that is not done."""
    for key in plan.to_run():
        cell = plan.cells[key]
        shared_steps = trunks.count_shared_steps(plan, key)
        plan.run_seconds[key] = plan.costs.estimate_seconds(cell.recipe, plan.step_ms[cell.variant.key], shared_steps)


def _describe_mismatch_of_size(plan: Plan, size: str) -> list[str]:
    arms = {}
    for variant in plan.variants:
        if variant.size == size:
            counts, trained = plan.counts[variant.key], count_training_tokens(variant.recipe)
            arms[variant.name] = {**counts, "tokens": trained, "flops": trained * counts["flops_per_token"]}
    lines = describe_mismatch(arms, plan.spec.baselines[size].name)
    return [f"{size}: {line}" if size else line for line in lines]


def print_plan(plan: Plan, console: Console) -> None:
    """Print the bill."""
    items = []
    for variant in plan.variants:
        keys = [key for key, cell in plan.cells.items() if cell.variant.key == variant.key]
        to_run = sum(key not in plan.finished_runs for key in keys)
        items.append(
            bill.BillLine(
                name=variant.key,
                counts=plan.counts[variant.key],
                step_ms=plan.step_ms[variant.key],
                is_estimated=variant.key in plan.estimated,
                cells=len(keys),
                to_run=to_run,
                adjustments=[adjustment.reason for adjustment in variant.adjustments if adjustment.reason],
            )
        )
    disk_bytes = 0.0
    for cell in map(plan.cells.__getitem__, plan.to_run()):
        disk_bytes += estimate_disk_use(plan.counts[cell.variant.key]["params"], cell.recipe)
    spec = plan.spec
    refuse_small_disk(spec, disk_bytes)
    bill.print_bill(
        bill.Bill(
            name=spec.name,
            shared=spec.shared,
            lines=items,
            baselines=[variant.key for variant in plan.baselines.values()],
            seeds=spec.options.blocks,
            minutes=estimate_wall_time(plan.run_seconds.values(), plan.jobs) / 60,
            jobs=min(plan.jobs, len(plan.to_run())),
            timing_s=spec.options.timing if len(plan.variants) > 1 else 0,
            disk_bytes=disk_bytes,
            notes=[*spec.notes, *plan.notes, *climb.describe_rungs(plan), *trunks.describe_trunks(plan)],
            mismatch=[*plan.mismatch, *plan.feed],
        ),
        console,
    )


def refuse_small_disk(spec: StudySpec, disk_bytes: float) -> None:
    """Refuse a study that would fill the disk."""
    free = count_free_bytes(Path(spec.outputs))
    if disk_bytes > free:
        raise Refused(
            f"outputs={spec.outputs} has {free / 1e6:.0f} MB free, and this study writes about "
            f"{disk_bytes / 1e6:.0f} MB; free some, or set outputs=<folder>"
        )
