"""A study from its command to its verdicts: parse, plan, print the bill, run missing cells, confirm, time, compare."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import fmean

from rich.console import Console

from gptlab.ablation.cells import Cell, hash_question, make_baseline_cells, make_confirmation_cells
from gptlab.ablation.ladder import climb
from gptlab.ablation.looks import (
    describe_looks,
    race_over_looks,
    refuse_other_judging,
    refuse_unfit_looks,
    start_at_first_look,
)
from gptlab.ablation.lr_extension import extend_grids
from gptlab.ablation.measure import override_for_follow_up, report_measurements, run_measurements
from gptlab.ablation.plan import Plan, estimate_run_times, make_plan, open_study_folder, print_plan
from gptlab.ablation.pool import CellPool
from gptlab.ablation.progress import StudyProgress
from gptlab.ablation.protocol.campaign import claim_share, preview_share
from gptlab.ablation.protocol.register import refuse_unfit_registration, register_plan
from gptlab.ablation.question import StudySpec, parse_command
from gptlab.ablation.search import describe_space, refuse_empty_space, run_searches
from gptlab.ablation.study_json import make_study_plan
from gptlab.console.json_answer import add_to_answer
from gptlab.console.terminal import Screen
from gptlab.console.units import relative_to_cwd
from gptlab.errors import Ended, Refused
from gptlab.report.collect import collect_study_runs
from gptlab.report.render.answer import DECIDED, answer_with_findings, choose_status
from gptlab.runs.record import read_json, to_json, write_atomically
from gptlab.runs.study_folder import TERMINAL_STATES, CellState, StudyFolder, is_held, lock_or_owner
from gptlab.stats.metric_comparison import tabulate
from gptlab.stats.results import SELECT

Launch = Callable[[Sequence[str], int], None]
"""Runs cells, given the paths of their files and how many at once."""
ATTEMPTS = 5
"""How often cells are launched again that another process left, or that a launcher's own failure kept from starting."""


def run_study(
    axes: dict[str, list[str]], fixed: dict[str, str], launch: Launch, jobs: int | None, remarks: Sequence[str] = ()
) -> int:
    """Run the study of a command line; return the exit status that its verdicts stand for.

    What cannot run is refused before anything is written.

    launch   hydra's launcher
    jobs     how many cells it runs at once on this machine; None: our own pool runs them, if there are several
    remarks  on the words of the command line, to be printed before the bill
    """
    console = Screen(highlight=False)
    # a log or a pipe has no width: wide enough that a line of the table is not broken
    if not console.is_terminal:
        console.width = 140
    spec = preview_share(parse_command(axes, fixed, pooled=jobs is None))
    _refuse_unfit_study(spec)
    for remark in remarks:
        console.print(remark, style="yellow", markup=False, soft_wrap=True)
    if spec.study.together:
        run_measurements(spec, console)
        status = DECIDED
        if spec.study.follow_up:
            status = run_study(axes, override_for_follow_up(fixed, spec.name, spec.study.follow_up), launch, jobs)
            if not spec.options.dry_run:
                report_measurements(open_study_folder(spec).path, console)
        return status
    if searches := spec.options.design == "search":
        refuse_empty_space(Plan(spec, open_study_folder(spec), jobs or 1))
    plan = make_plan(start_at_first_look(spec), jobs)
    print_plan(plan, console)
    console.print(f"  {describe_looks(spec.options, spec.alpha)}", style="dim", markup=False, soft_wrap=True)
    launch = partial(_run_in_pool, plan, launch, console) if plan.pooled else launch
    if searches:
        console.print(f"  search: {describe_space(spec)}", markup=False)
    if spec.options.dry_run:
        add_to_answer(cells=len(plan.cells), to_run=len(plan.to_run()), seconds=sum(plan.run_seconds.values()))
        return DECIDED
    plan.spec = claim_share(plan.spec)
    register_plan(plan, console)
    return _run_and_report(plan, launch, console)


def _refuse_unfit_study(spec: StudySpec) -> None:
    """Refuse what does not go with a study of this name, before anything is timed or written."""
    study_folder = open_study_folder(spec)
    _refuse_other_question(study_folder, spec)
    refuse_unfit_looks(study_folder, spec)
    refuse_unfit_registration(study_folder, spec)
    refuse_other_judging(study_folder, spec)


def _run_and_report(plan: Plan, launch: Launch, console: Console) -> int:
    """Run what is missing and report the study; return the status of its verdicts."""
    try:
        # timing comes last, alone on the machine: cells at work would slow the arms unequally
        _run_all_cells(plan, partial(_run_missing_cells, plan, launch, console), console)
        _time_arms(plan, console)
    except (KeyboardInterrupt, SystemExit) as stopped:
        states = plan.folder.read_states()
        done = sum(states.get(key, CellState()).status in TERMINAL_STATES for key in plan.cells)
        status = stopped.code if isinstance(stopped, SystemExit) and isinstance(stopped.code, int) else 130
        raise Ended(f"stopped: {done} of {len(plan.cells)} cells done; the same command goes on", status) from stopped
    return _report_study(plan, console)


def _run_all_cells(plan: Plan, run: Callable[[], None], console: Console) -> None:
    """Run the cells of the command, then those that depend on their results."""
    options = plan.spec.options
    if options.ladder:
        climb.run_rungs(plan, run, console)
    else:
        run()
    if options.until == "resolved":
        race_over_looks(plan, run, console)
    if options.design == "search":
        run_searches(plan, run, console)
    if options.tune == "grid":
        extend_grids(plan, run, console)
    if options.confirm or (options.tune != "shared" and (options.has_twin or options.budgets)):
        plan.add_cells(_make_later_cells(plan))
        estimate_run_times(plan)
        run()


def _report_study(plan: Plan, console: Console) -> int:
    """Compare what has run; print tables and verdicts, write the reports. Return the status of the verdicts."""
    from gptlab.report.findings import compare_study_folder
    from gptlab.report.publish import publish_summary, write_pages
    from gptlab.report.render import files
    from gptlab.report.render import terminal as table

    spec, study_folder = plan.spec, plan.folder
    # a look is on record before its verdict is seen
    confirmed = {"confirm": spec.options.confirm} if spec.options.confirm else {}
    study_folder.record_event("", "compared", seeds=spec.options.blocks, budget=spec.options.budget, **confirmed)
    findings = compare_study_folder(study_folder.path)
    table.print_study(findings, console)
    files.write_files(findings, study_folder.path)
    report = write_pages(findings, study_folder.path, study_folder.pool)
    publish_summary(
        study_folder.path, findings, report, lambda line: console.print(f"  {line}", markup=False, soft_wrap=True)
    )
    console.print(f"\n{relative_to_cwd(study_folder.path)}", soft_wrap=True, markup=False)
    add_to_answer(folder=study_folder.path, **answer_with_findings(findings))
    unfinished = [run for run in findings.runs if run.status not in ("finished", "diverged")]
    if unfinished:
        raise Ended(
            f"{len(unfinished)} of {len(findings.runs)} cells did not finish; the same command tries failed ones again"
        )
    return choose_status(findings)


def _refuse_other_question(study_folder: StudyFolder, spec: StudySpec) -> None:
    """Refuse a name that belongs to a study of another question."""
    if not (study_folder.path / "study.json").exists():
        return
    if study_folder.plan.asks != hash_question(spec.axes, spec.base, spec.options):
        command = " ".join(study_folder.plan.command)
        raise Refused(f"name={spec.name} is another question already: {command}; give another name=")


def _run_missing_cells(plan: Plan, launch: Launch, console: Console) -> None:
    """Run the cells that are not done.

    Those at work in another process are waited for, and run here if it dies.
    """
    study_folder = plan.folder
    documents = {key: cell.to_document(plan.jobs) for key, cell in plan.cells.items()}
    # before any cell runs: workers in other processes know the study by these files only
    study_folder.save_plan(make_study_plan(plan), documents)
    for key, folder in plan.finished_runs.items():
        # a ladder's later rungs have no cells yet
        if key in documents and study_folder.read_states().get(key, CellState()).status not in TERMINAL_STATES:
            study_folder.adopt_run(key, folder)
    todo = plan.to_run()
    if not todo:
        return
    trouble = ""
    with StudyProgress(study_folder, documents, console, seconds=plan.run_seconds, jobs=plan.jobs):
        # bounded: a launcher that dies at once would otherwise be called for ever
        for _ in range(ATTEMPTS):
            began = time.time()
            try:
                launch([str(study_folder.path / "cells" / f"{key}.json") for key in todo], plan.jobs)
            except Exception as error:  # the launcher's own, as when one of its processes was killed
                trouble = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            todo = _find_unfinished(plan, todo, began, trouble)
            if not todo:
                return
        for key in todo:
            study_folder.record_event(key, "failed", reason=trouble or f"launched {ATTEMPTS} times, and never ran")


def _run_in_pool(plan: Plan, launch: Launch, console: Console, paths: Sequence[str], jobs: int) -> None:
    """Run cells in worker processes; a single one by the launcher, in this process, which has made its imports."""
    jobs = min(jobs, len(paths))
    if jobs == 1:
        launch(paths, 1)
        return
    CellPool(jobs, plan.folder, lambda line: console.print(f"  {line}", markup=False)).run(paths)


def _find_unfinished(plan: Plan, todo: list[str], began: float, trouble: str) -> list[str]:
    """Return the cells that must be launched again. A cell whose process died while it ran has failed."""
    study_folder, remaining = plan.folder, []
    while any(is_held(study_folder.lock_path(key)) for key in todo):  # at work in another process
        time.sleep(1)
    for key in todo:
        state = study_folder.read_states().get(key, CellState())
        # a failure of an earlier command is tried again, one of this command is not
        if state.status in (*TERMINAL_STATES, "failed") and state.at >= began:
            continue
        cell = plan.cells[key]
        finished_run, _ = study_folder.find_runs(key, cell.recipe, plan.spec.options.reuse)
        if finished_run is not None:
            study_folder.adopt_run(key, finished_run)
        # begun here and its lock is free: the process died without a word, as the system kills for memory
        elif state.status == "stopped" and state.at >= began and not state.owner:
            reason = trouble or "its process ended without a word"
            study_folder.record_event(
                key, "failed", run=state.run, reason=reason, log=str(study_folder.pool / state.run / "log.txt")
            )
        else:
            remaining.append(key)
    return remaining


def _make_later_cells(plan: Plan) -> list[Cell]:
    """Return the cells that depend on the others' results.

    These are the best arm and the baseline on seeds that had no part in choosing it, and the baseline's other budgets
    at its best learning rate.
    """
    from gptlab.report.findings import compare_study_folder

    options, cells = plan.spec.options, []
    variants = {(cell.variant.size, cell.variant.name): cell.variant for cell in plan.cells.values()}
    for stratum in compare_study_folder(plan.folder.path).strata:
        best = {tuning.arm: tuning.best for tuning in stratum.tunings}
        means = {arm.arm: arm.mean for arm in stratum.comparisons[0].arms if arm.mean is not None}
        if options.design == "search":  # the half that judges has no part in choosing
            means = {arm: fmean(by_seed.values()) for arm, by_seed in tabulate(stratum.runs, SELECT).items()}
        # without a baseline there is nothing to confirm against
        if stratum.baseline not in means:
            continue
        # ties go by name, so that a study repeated confirms the same arm
        winner = min(set(means) - {stratum.baseline}, key=lambda arm: (means[arm], arm), default=None)
        pairs = [(variants[stratum.size, arm], best.get(arm)) for arm in (stratum.baseline, winner) if arm]
        if options.tune != "shared":
            cells += make_baseline_cells(options, *pairs[0])
        cells += make_confirmation_cells(options, pairs)
    return cells


def _time_arms(plan: Plan, console: Console) -> None:
    """Time all arms interleaved, once; the session is kept as long as the code and the arms are the same."""
    options, study_folder = plan.spec.options, plan.folder
    runs = [run for run in collect_study_runs(study_folder.path) if run.status == "finished"]
    finished = {run.arm for run in runs}
    arms = {variant.key: variant for variant in plan.variants if variant.name in finished}
    if not options.timing or len(arms) < 2:
        return
    # the same arms by the same code take the same time: one session is enough
    stamp = {"arms": sorted(arms), "code": sorted({run.facts.get("code", "") for run in runs})}
    path = study_folder.path / "timing.json"
    if path.exists() and read_json(path).get("stamp") == stamp:
        return
    from gptlab.stats.timing import AA_CONTROL
    from gptlab.study.tools.timing import TrainingBench, describe_device, time_benches

    device = describe_device(next(iter(arms.values())).recipe)
    if others := sorted({run.facts.get("device", device) for run in runs} - {device}):
        study_folder.record_event("", "untimed", reason=f"the runs were on {', '.join(others)}, and this is {device}")
        return
    with lock_or_owner(study_folder.path / "timing.lock") as owner:
        if owner is not None:  # another process of this study is at it
            return
        with console.status(f"[dim]timing {len(arms)} arms in turn[/]"):
            benches, controls = {}, {}
            for key, variant in arms.items():
                benches[key] = TrainingBench(variant.recipe, plan.costs.load_corpus(variant.recipe))
            # the baseline a second time under another name: how far it differs from itself is the clock's noise
            for size, baseline in plan.baselines.items():
                if baseline.key in arms:
                    controls[f"{size}/{AA_CONTROL}".lstrip("/")] = baseline.key
            times = time_benches(benches, controls, options.timing)
        write_atomically(path, to_json({"stamp": stamp, "device": device, "timed": times}))
