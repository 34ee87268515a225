"""A study as a report: from its answer to its raw numbers, in the order in which a reviewer asks.

Answer; question and rule; setup; noise floor; results; on the way; trade-offs; where the difference is; what the arms
write; learning rates; sizes; what is open; threats; cost; how to do it again; every seed.
"""

from pathlib import Path
from statistics import fmean

from gptlab.console.units import format_duration
from gptlab.report import history, setup
from gptlab.report import search as searched
from gptlab.report.figures import sizes
from gptlab.report.figures import study as figures
from gptlab.report.figures.curves import levels
from gptlab.report.model import Code, Figure, Item, Report, Sections, Table, Texts, Words
from gptlab.report.text import caveats as fairness
from gptlab.report.text import columns as tables
from gptlab.report.text import sentences as words
from gptlab.report.text.columns import Column
from gptlab.report.text.summary import answer
from gptlab.report.text.view import View, command, seeds, views
from gptlab.stats.results import Findings, Run

COSTS = ("memory/peak_bytes", "weight_bits", "cache_bytes_per_token", "params")
DECIDED = ("better", "equivalent", "worse")
MARKS = "✓ better, ✗ worse, = equivalent, ? not resolved, ! unstable."


def report(findings: Findings, pool: Path | None = None) -> Report:
    """The whole study. `pool`: where its runs live; without one there is nothing that only their folders know."""
    shown, made = views(findings), Sections()
    made.add("question", "Question and rule", Words(question(findings)))
    if pool is not None:
        made.add("search", "Search", *searched.items(pool.parent / "ablations" / findings.study))
    made.add("setup", "Setup", setup.table(findings.runs, pool))
    for view in shown:
        made.add("floor", _of(view, "Noise floor"), Words(fairness.floor(view)))
        made.add("results", _of(view, "Results"), *_results(view))
        told = history.read(_best(view), pool) if pool else []
        made.add("curves", _of(view, "On the way"), *_curves(view, told))
        made.add("tradeoffs", _of(view, "Trade-offs"), *_tradeoffs(view))
        made.add("where", _of(view, "Where the difference is"), *_where(view, pool))
        made.add("samples", _of(view, "What the arms write"), _texts(view, pool))
        made.add("rates", _of(view, "Learning rates"), *_rates(view))
    made.add("sizes", "Sizes", Words([*map(fairness.scaled, findings.scalings)]), *_sizes(findings, pool))
    made.add("open", "What is open", Words(_open(shown)), Words(words.unfinished(findings)))
    made.add("threats", "Threats", Words(_threats(findings)))
    made.add("cost", "Cost of the study", *_cost(findings))
    made.add("again", "To do it again", *_again(findings))
    for view in shown:
        made.add("seeds", _of(view, "Every seed"), Table("The metric that decides", _seeds(view)))
    made.add(
        "raw", "Raw numbers", Words(["Every number of every run: results.csv. All that was computed: comparison.json."])
    )
    answers = {view.stratum.size: Words(answer(view), numbered=True) for view in shown}
    return Report(findings.study, f"{fairness.spent(findings)}.", answers, made.found, command(findings.asked))


def question(findings: Findings) -> list[str]:
    """What was asked, and by which rule it is judged."""
    asked = findings.asked
    lines = [f"{axis}: {', '.join(map(str, values))}" for axis, values in asked.get("axes", {}).items()]
    lines += [f"every run: {' '.join(asked['base'])}"] if asked.get("base") else []
    lines += [f"design {asked['design']}"] if asked.get("design") else []
    lines += [f"seeds {', '.join(map(str, seeds(asked)))}"] if seeds(asked) else []
    return lines + [f"{tables.heading(view)}. {fairness.judged(view)}" for view in views(findings)[:1]]


def _of(view: View, heading: str) -> str:
    return f"{heading}, {view.stratum.size}" if view.stratum.size else heading


def _best(view: View) -> list[Run]:
    """The arms' runs, where learning rates were tuned at each one's best."""
    best = {one.arm: one.best for one in view.tunings}
    return [run for run in view.stratum.runs if run.role == "arm" and run.lr == best.get(run.arm, run.lr)]


def _results(view: View) -> list[Item | None]:
    found = {(run.arm, run.seed): run for run in _best(view) if run.status == "finished"}
    key, fresh = view.comparison.metric.key, view.stratum.confirmed
    values = {who: run.values[key] for who, run in found.items() if key in run.values}
    told = [
        words.verdict(view, view.comparison, one)
        for arm in view.order
        if (one := view.contrasts.get(arm)) and one.verdict in DECIDED
    ]
    return [
        Table(tables.heading(view), tables.main(view)),
        figures.forest(view),
        *levels(view),
        Words(told),
        Table("Pairs", tables.pairs(view)) if view.comparison.pairs else None,
        Words([f"On fresh seeds alone: {one}" for one in words.confirmed(view, fresh)]) if fresh else None,
        Words(view.notes),
        figures.seeds(view, key, values),
    ]


def _curves(view: View, told: list[history.History]) -> list[Item | None]:
    unit, base, arms = view.comparison.metric.unit, view.comparison.baseline, view.comparison.arms
    trained, over_time = "Training loss less the baseline's, by seed", "The same after equal seconds of training"
    target = (
        next((one.mean for one in arms if one.arm == base), None) if view.comparison.metric.key == "val/loss" else None
    )
    if not told:
        return []
    drawn: list[Item | None] = [
        figures.curves(
            "Training loss, mean over seeds with 95 % interval", unit, history.means(told, "train/loss"), view
        ),
        figures.curves("Validation loss on the way", unit, history.means(told, "val/loss"), view),
        figures.curves(trained, unit, history.differences(told, "train/loss", base), view),
        figures.curves(over_time, unit, history.differences(told, "train/loss", base, "seconds"), view, "seconds"),
    ]
    if target is not None:
        title = f"Seconds of training until the validation loss reached {target:.3f}, the baseline's last"
        came = history.reached(told, "val/loss", target)
        many = ", ".join(f"{view.names[arm]} {len(one)}" for arm, one in came.items())
        drawn.append(figures.bars(title, "seconds", came, view, f"Seeds that came there: {many}."))
    return drawn


def _tradeoffs(view: View) -> list[Item | None]:
    costs = [*view.stratum.timings, *(one for one in view.others if one.metric.key in COSTS)]
    told = [*filter(None, [tables.shared(view), *fairness.ladder(view)]), *fairness.fronts(view)]
    return [
        Table("Other measures, each against the baseline", tables.others(view), MARKS),
        Words(told),
        *(figures.front(view, one, view.stratum.fronts) for one in costs),
    ]


def _where(view: View, pool: Path | None) -> list[Item | None]:
    """By place in the window, and by how much text stands before it."""
    if pool is None:
        return []
    runs = _best(view)
    places = {arm: dict(enumerate(one)) for arm, one in history.by_position(runs, pool).items()}
    known: dict[str, dict[str, list[float]]] = {}
    for run in runs:
        for contexts in ("1x", "2x", "4x"):
            if (value := run.values.get(f"val/loss_at_{contexts}")) is not None:
                known.setdefault(run.arm, {}).setdefault(contexts, []).append(value)
    means = {arm: {at: fmean(values) for at, values in one.items()} for arm, one in known.items()}
    return [
        figures.lines("Loss by position in the window", "tokens before", places, view),
        figures.lines(
            "Loss of the same targets after 1, 2 and 4 contexts", "contexts of text", means, view, type="category"
        ),
    ]


def _texts(view: View, pool: Path | None) -> Texts | None:
    found = history.texts(_best(view), pool) if pool else {}
    return Texts({view.names.get(arm, arm): one for arm, one in found.items()})


def _rates(view: View) -> list[Item | None]:
    found = view.tunings
    if not found:
        return []
    curves = {one.arm: {rate: loss for rate, loss in sorted(one.losses.items()) if loss is not None} for one in found}
    return [
        Table("Mean loss at each rate, a star for the best", tables.tuning(view)),
        figures.lines("Loss over learning rate", "learning rate", curves, view, type="log"),
        Words([words.tuned(view, one) for one in found]),
    ]


def _sizes(findings: Findings, pool: Path | None) -> list[Figure]:
    """What models of several sizes have besides, where sizes are an axis."""
    made = figures.scaling(findings.scalings)
    if pool is None or "model" not in findings.asked.get("axes", {}):
        return made
    folders: dict[str, list[Path]] = {}
    for run in findings.runs:
        if run.role == "arm" and run.status == "finished" and run.folder:
            name = " ".join(filter(None, [run.size, run.arm])).replace("model=", "")
            folders.setdefault(name, []).append(pool / run.folder)
    return made + sizes.figures(folders)


def _open(shown: list[View]) -> list:
    """Verdicts that more seeds, or another learning rate, may change."""
    told = []
    for view in shown:
        rest = [arm for arm in view.order if arm != view.comparison.baseline and view.verdict(arm) not in DECIDED]
        for arm in rest:
            one = view.contrasts.get(arm)
            told.append(words.verdict(view, view.comparison, one) if one else words.lost(view, arm))
    return told


def _threats(findings: Findings) -> list:
    return [*fairness.rules(findings), *findings.notes, *fairness.caveats(findings)]


def _cost(findings: Findings) -> list[Item]:
    """Where the time went: runs by arm, and what each kind of work took."""
    groups: dict[str, list[Run]] = {}
    for run in findings.runs:
        if run.status in ("finished", "diverged"):
            role = {"arm": "", "twin": "again", "budget": "other budgets", "confirm": "fresh seeds"}[run.role]
            groups.setdefault(" ".join(filter(None, [run.size, run.arm, role])), []).append(run)
    columns = [Column("runs of", [*groups], left=True), Column("runs", [str(len(runs)) for runs in groups.values()])]
    for head, key in (
        ("training", "time/train_s"),
        ("evaluation", "time/evaluate_s"),
        ("samples", "time/samples_s"),
        ("in all", "time/total_s"),
    ):
        spent = [sum(run.values.get(key, 0.0) for run in runs) for runs in groups.values()]
        columns.append(Column(head, [format_duration(seconds) for seconds in spent]))
    return [Table("Time of this machine, seeds together", columns if groups else [])]


def _again(findings: Findings) -> list[Item]:
    return [
        Code("The same study goes on where it stands:", command(findings.asked)),
        Code("With two more seeds; what is done is used again:", command(findings.asked, 2)),
    ]


def _seeds(view: View) -> list[Column]:
    """The metric that decides, an arm a row, a seed a column."""
    runs = _best(view)
    found, every = {(run.arm, run.seed): run for run in runs}, sorted({run.seed for run in runs})
    columns = [Column(view.axis or "arm", [view.names[arm] for arm in view.order], left=True)]
    for seed in every:
        columns.append(Column(f"seed {seed}", [_value(view, found.get((arm, seed))) for arm in view.order]))
    return columns


def _value(view: View, run: Run | None) -> str:
    number = run.values.get(view.comparison.metric.key) if run and run.status == "finished" else None
    return f"{number:.4f}" if number is not None else run.status if run else ""
