"""A study from its command to its verdicts: ask, plan, bill, run what is missing, confirm, time, compare."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

from rich.console import Console

from gptlab.ablation import measure as measuring
from gptlab.ablation import plan as planning
from gptlab.ablation import search as searching
from gptlab.ablation.cells import Cell, asks, confirmation, of_baseline
from gptlab.ablation.plan import Plan, plan
from gptlab.ablation.progress import Overview
from gptlab.ablation.question import Question, question
from gptlab.console.terminal import Screen
from gptlab.errors import Ended, Refused
from gptlab.report import collect as gather
from gptlab.runs.record import dump, read, write
from gptlab.runs.study_folder import OVER, Ledger, State, held, locked
from gptlab.stats import metric_comparison as judge
from gptlab.stats.results import SELECT

Launch = Callable[[Sequence[str], int], None]
"""Has cells run, given the paths of their files and how many at once."""
ATTEMPTS = 5
"""How often cells are launched again that another process left, or that a launcher's own failure kept from starting."""


def conduct(axes: dict[str, list[str]], fixed: dict[str, str], launch: Launch, jobs: int) -> None:
    """Runs a study. What cannot run is refused before anything is written."""
    console = Screen(highlight=False)
    if not console.is_terminal:
        console.width = 140
    asked = question(axes, fixed)
    _refuse_another(planning.ledger(asked), asked)
    if asked.study.together:
        measuring.measure(asked, console)
        if asked.study.follow_up:
            conduct(axes, measuring.followed(fixed, asked.name, asked.study.follow_up), launch, jobs)
            if not asked.asked.dry_run:
                measuring.again(planning.ledger(asked).folder, console)
        return
    if searches := asked.asked.design == "search":
        searching.refuse_empty(Plan(asked, planning.ledger(asked), jobs))
    made = plan(asked, jobs)
    planning.show(made, console)
    ledger = made.ledger
    if searches:
        console.print(f"  search: {searching.space(asked)}", markup=False)
    if asked.asked.dry_run:
        return
    try:
        _run(made, launch, console)
        if searches:
            searching.explore(made, lambda: _run(made, launch, console), console)
        if asked.asked.confirm or (asked.asked.tune == "grid" and (asked.asked.aa or asked.asked.budgets)):
            made.add(_afterwards(made))
            planning.estimate(made)
            _run(made, launch, console)
        _time(made, console)
    except (KeyboardInterrupt, SystemExit) as stopped:
        states = ledger.states()
        done = sum(states.get(key, State()).status in OVER for key in made.cells)
        status = stopped.code if isinstance(stopped, SystemExit) and isinstance(stopped.code, int) else 130
        raise Ended(f"stopped: {done} of {len(made.cells)} cells done; the same command goes on", status) from stopped
    _compared(made, console)


def _compared(made: Plan, console: Console) -> None:
    """Tables, verdicts and reports of what has run."""
    from gptlab.report.findings import compare
    from gptlab.report.publish import pages, sum_up
    from gptlab.report.render import files
    from gptlab.report.render import terminal as table

    asked, ledger = made.question, made.ledger
    ledger.note("", "compared", seeds=asked.asked.blocks)
    found = compare(ledger.folder)
    table.show(found, console)
    files.write(found, ledger.folder)
    report = pages(found, ledger.folder, ledger.pool)
    sum_up(ledger.folder, found, report, lambda line: console.print(f"  {line}", markup=False, soft_wrap=True))
    console.print(f"\n{nearby(ledger.folder)}", soft_wrap=True, markup=False)
    bad = [run for run in found.runs if run.status != "finished"]
    if bad:
        raise Ended(f"{len(bad)} of {len(found.runs)} cells did not finish; the same command tries failed ones again")


def nearby(path: Path) -> Path:
    """A path as one would type it here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _refuse_another(ledger: Ledger, here: Question) -> None:
    """A name that was given to another question."""
    if (ledger.folder / "study.json").exists() and ledger.asked["asks"] != asks(here.axes, here.base, here.asked):
        command = " ".join(ledger.asked["command"])
        raise Refused(f"name={here.name} is another question already: {command}; give another name=")


def _run(made: Plan, launch: Launch, console: Console) -> None:
    """Runs the cells that are not done; those at work in another process are waited for, and run if it dies."""
    ledger = made.ledger
    plain = {key: cell.plain(made.jobs) for key, cell in made.cells.items()}
    ledger.ask(planning.asked(made), plain)
    for key, folder in made.over.items():
        if ledger.states().get(key, State()).status not in OVER:
            ledger.take(key, folder)
    todo = made.to_run()
    if not todo:
        return
    trouble = ""
    with Overview(ledger, plain, made.seconds, made.jobs, console):
        for _ in range(ATTEMPTS):
            began = time.time()
            try:
                launch([str(ledger.folder / "cells" / f"{key}.json") for key in todo], made.jobs)
            except Exception as error:  # the launcher's own, as when one of its processes was killed
                trouble = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            todo = _left(made, todo, began, trouble)
            if not todo:
                return
        for key in todo:
            ledger.note(key, "failed", reason=trouble or f"launched {ATTEMPTS} times, and never ran")


def _left(made: Plan, todo: list[str], began: float, trouble: str) -> list[str]:
    """What must be launched again. A cell whose process died while it ran has failed."""
    ledger, again = made.ledger, []
    while any(held(ledger.lock(key)) for key in todo):  # at work in another process
        time.sleep(1)
    for key in todo:
        state = ledger.states().get(key, State())
        if state.status in (*OVER, "failed") and state.at >= began:
            continue
        cell = made.cells[key]
        over, _ = ledger.found(key, cell.recipe, made.question.asked.reuse)
        if over is not None:
            ledger.take(key, over)
        elif state.status == "stopped" and state.at >= began and not state.owner:
            reason = trouble or "its process ended without a word"
            ledger.note(key, "failed", run=state.run, reason=reason, log=str(ledger.pool / state.run / "log.txt"))
        else:
            again.append(key)
    return again


def _afterwards(made: Plan) -> list[Cell]:
    """Cells that only the others' runs decide: the best arm and the baseline on seeds that had no part in choosing it,
    and the baseline's other budgets at its best learning rate."""
    from gptlab.report.findings import compare

    asked, found = made.question.asked, []
    variants = {(cell.variant.size, cell.variant.name): cell.variant for cell in made.cells.values()}
    for stratum in compare(made.ledger.folder).strata:
        best = {tuning.arm: tuning.best for tuning in stratum.tunings}
        means = {arm.arm: arm.mean for arm in stratum.comparisons[0].arms if arm.mean is not None}
        if asked.design == "search":  # the half that judges has no part in choosing
            means = {arm: fmean(one.values()) for arm, one in judge.tabulate(stratum.runs, SELECT).items()}
        if stratum.baseline not in means:
            continue
        winner = min(set(means) - {stratum.baseline}, key=lambda arm: (means[arm], arm), default=None)
        pairs = [(variants[stratum.size, arm], best.get(arm)) for arm in (stratum.baseline, winner) if arm]
        if asked.tune == "grid":
            found += of_baseline(asked, *pairs[0])
        found += confirmation(asked, pairs)
    return found


def _time(made: Plan, console: Console) -> None:
    """All arms timed in turn, once; the session is kept as long as the code and the arms are the same."""
    asked, ledger = made.question.asked, made.ledger
    runs = [run for run in gather.study(ledger.folder) if run.status == "finished"]
    arms = {variant.key: variant for variant in made.variants if any(run.arm == variant.name for run in runs)}
    if not asked.timing or len(arms) < 2:
        return
    stamp = {"arms": sorted(arms), "code": sorted({run.facts.get("code", "") for run in runs})}
    path = ledger.folder / "timing.json"
    if path.exists() and read(path)["stamp"] == stamp:
        return
    from gptlab.study.tools.timing import TWIN, Bench, here, session

    device = here(next(iter(arms.values())).recipe)
    if others := sorted({run.facts.get("device", device) for run in runs} - {device}):
        ledger.note("", "untimed", reason=f"the runs were on {', '.join(others)}, and this is {device}")
        return
    with locked(ledger.folder / "timing.lock") as owner:
        if owner is not None:  # another process of this study is at it
            return
        with console.status(f"[dim]timing {len(arms)} arms in turn[/]"):
            benches = {key: Bench(variant.recipe, made.costs.corpus(variant.recipe)) for key, variant in arms.items()}
            twins = {f"{one.size}/{TWIN}".lstrip("/"): one.key for one in made.baselines.values() if one.key in arms}
            found = session(benches, twins, asked.timing)
        write(path, dump({"stamp": stamp, "device": device, "timed": found}))
