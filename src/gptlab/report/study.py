"""The report of a study: from its answer to its raw numbers, in the order in which a reviewer asks.

Answer; question and rule; setup; over sizes; noise floor; results; interactions; on the way; trade-offs; where the
difference is; what the arms write; learning rates; sizes; what is open; threats; cost; how to do it again; every seed.
"""

from pathlib import Path
from statistics import fmean

from gptlab.console.units import format_duration
from gptlab.report import history
from gptlab.report.figures import study as figures
from gptlab.report.figures.capabilities import draw_accuracy_by_difficulty, draw_capability_map
from gptlab.report.figures.curves import draw_levels
from gptlab.report.figures.experts import draw_loads
from gptlab.report.figures.sizes import draw_size_figures
from gptlab.report.interactions import build_interaction_items
from gptlab.report.ladder import build_ladder_items
from gptlab.report.model import Figure, Item, Report, Sections, Table, Texts, Words
from gptlab.report.search import build_search_items
from gptlab.report.setup import build_commands, build_setup_table
from gptlab.report.text import caveats, columns, measures, sentences
from gptlab.report.text.capabilities import CAPTION, build_capability_columns
from gptlab.report.text.columns import Column
from gptlab.report.text.looks import describe_plan
from gptlab.report.text.markup import Sentence, give_commands_once
from gptlab.report.text.summary import summarize_view
from gptlab.report.text.view import MARKS_FOOT, View, build_command, make_views, title_study
from gptlab.stats.results import ACCURACY, Comparison, Findings, Run, Timing
from gptlab.stats.summary_keys import list_names

COSTS = ("memory/peak_bytes", "weight_bits", "cache_bytes_per_token", "params")
DECIDED = ("better", "equivalent", "worse")
ROLES = {"twin": "again", "budget": "other budgets", "confirm": "fresh seeds", "shuffled": "shuffled targets"}
TIMES = list_names("time/train_s", "time/evaluate_s", "time/samples_s", "time/total_s")


def build_study_report(findings: Findings, pool: Path | None = None) -> Report:
    """Return the report of a whole study.

    pool  where its runs live; without one, what only their folders know is left out
    """
    views, sections = make_views(findings), Sections()
    sections.add("question", "Question and rule", Words(describe_question(findings)))
    # lone runs of several places have no pool, and no search
    if pool is not None:
        sections.add("search", "Search", *build_search_items(pool.parent / "ablations" / findings.study))
    table = Table(CAPTION, build_capability_columns(views), MARKS_FOOT)
    sections.add("capabilities", "Capabilities", table, draw_capability_map(views))
    sections.add("setup", "Setup", build_setup_table(findings.runs, pool))
    sections.add("ladder", "Over sizes", *build_ladder_items(findings.ladder, findings.strata))
    for view in views:
        _add_view_sections(sections, view, pool)
    sizes = Words([caveats.describe_scaling(scaling) for scaling in findings.scalings])
    sections.add("sizes", "Sizes", sizes, *_draw_sizes(findings, pool))
    sections.add(
        "open", "What is open", Words(_describe_open(views)), Words(sentences.describe_unfinished_runs(findings))
    )
    sections.add("threats", "Threats", Words(_describe_threats(findings)))
    sections.add("cost", "Cost of the study", _build_cost_table(findings))
    sections.add("again", "To do it again", *build_commands(findings))
    for view in views:
        sections.add(
            "seeds", _add_size(view, "Every seed"), Table("The metric that decides", _build_seed_columns(view))
        )
    files = "Every number of every run: results.csv. All that was computed: comparison.json."
    sections.add("raw", "Raw numbers", Words([files]))
    return Report(
        title=findings.study,
        line=f"{caveats.summarize_runs(findings)}.",
        answers={view.stratum.size: Words(summarize_view(view), numbered=True) for view in views},
        sections=sections.sections,
        command=build_command(findings.plan),
        question=title_study(findings.plan),
    )


def _add_view_sections(sections: Sections, view: View, pool: Path | None) -> None:
    """Add the sections that each size has for itself."""
    histories = history.read_histories(_select_best_runs(view), pool) if pool else []
    noise = Table("Each arm's own SD beside the one that it is judged by", columns.build_noise_columns(view))
    sections.add("floor", _add_size(view, "Noise floor"), Words(caveats.describe_noise(view)), noise)
    sections.add("results", _add_size(view, "Results"), *_build_results(view))
    sections.add("interactions", _add_size(view, "Interactions"), *build_interaction_items(view))
    curves = [*_draw_curves(view, histories), *draw_loads(view.stratum.runs, pool)]
    sections.add("curves", _add_size(view, "On the way"), *curves)
    sections.add("tradeoffs", _add_size(view, "Trade-offs"), *_build_tradeoffs(view))
    sections.add("where", _add_size(view, "Where the difference is"), *_draw_losses_by_place(view, pool))
    sections.add("samples", _add_size(view, "What the arms write"), _collect_texts(view, pool))
    sections.add("rates", _add_size(view, "Learning rates"), *_build_learning_rates(view))


def _add_size(view: View, heading: str) -> str:
    return f"{heading}, {view.stratum.size}" if view.stratum.size else heading


def _select_best_runs(view: View) -> list[Run]:
    """Return the arms' runs; where learning rates were tuned, those at each arm's best, and all of one without."""
    best = {tuning.arm: tuning.best for tuning in view.tunings}
    return [run for run in view.stratum.runs if run.role == "arm" and run.lr == best.get(run.arm, run.lr)]


# -- question, results, curves


def describe_question(findings: Findings) -> list[str]:
    """Return lines on the question and on the rule by which it is judged."""
    plan = findings.plan
    lines = [f"{axis}: {', '.join(map(str, values))}" for axis, values in plan.axes.items()]
    if plan.base:
        lines.append(f"every run: {' '.join(plan.base)}")
    if plan.design:
        lines.append(f"design {plan.design}")
    if plan.seeds:
        lines.append(f"seeds {', '.join(map(str, plan.seeds))}")
    if plan.looks:
        lines.append(describe_plan(plan.looks, plan.spending, plan.alpha))
    for view in make_views(findings)[:1]:
        lines.append(f"{columns.describe_main_table(view)}. {caveats.describe_margin(view)}".rstrip())
    return lines


def _build_results(view: View) -> list[Item | None]:
    comparison, fresh = view.comparison, view.stratum.confirmed
    key = comparison.metric.key
    losses = {}
    for run in _select_best_runs(view):
        if run.status == "finished" and key in run.values:
            losses[run.arm, run.seed] = run.values[key]
    verdicts = []
    for arm in view.order:
        contrast = view.contrasts.get(arm)
        if contrast and contrast.verdict in DECIDED:
            verdicts.append(sentences.describe_contrast(view, comparison, contrast))
    confirmation = sentences.describe_confirmation(view, fresh) if fresh else []
    return [
        Table(columns.describe_main_table(view), columns.build_main_columns(view)),
        figures.draw_forest_plot(view),
        *draw_levels(view),
        Words(verdicts),
        Table("Pairs", columns.build_pair_columns(view)) if comparison.pairs else None,
        Words([f"On fresh seeds alone: {sentence}" for sentence in confirmation]),
        Words(view.notes),
        figures.draw_seeds(view, key, losses),
    ]


def _draw_curves(view: View, histories: list[history.History]) -> list[Item | None]:
    """Draw losses while the arms trained, their differences from the baseline, and the time to its last loss."""
    if not histories:
        return []
    comparison, unit = view.comparison, "nats/token"
    training = history.compute_mean_curves(histories, "train/loss")
    validation = history.compute_mean_curves(histories, "val/loss")
    by_tokens = history.compute_difference_curves(histories, "train/loss", comparison.baseline)
    # an arm that learns more from a token may still learn less in a second
    by_seconds = history.compute_difference_curves(histories, "train/loss", comparison.baseline, "seconds")
    drawn: list[Item | None] = [
        figures.draw_curves("Training loss, mean over seeds with 95 % interval", unit, training, view),
        figures.draw_curves("Validation loss on the way", unit, validation, view),
        figures.draw_curves("Difference in training loss from the baseline, by seed", unit, by_tokens, view),
        figures.draw_curves("The same after equal seconds of training", unit, by_seconds, view, axis="seconds"),
    ]
    target = next((row.mean for row in comparison.arms if row.arm == comparison.baseline), None)
    # only the validation loss is logged on the way, so no other metric has a time at which it was reached
    if target is not None and comparison.metric.key == "val/loss":
        title = f"Seconds of training until the validation loss reached {target:.3f}, the baseline's last"
        times = history.find_times_to_target(histories, "val/loss", target)
        counts = ", ".join(f"{view.names[arm]} {len(values)}" for arm, values in times.items())
        drawn.append(figures.draw_bars(title, "seconds", times, view, note=f"Seeds that came there: {counts}."))
    return drawn


# -- trade-offs, positions, texts, learning rates, sizes


def _build_tradeoffs(view: View) -> list[Item | None]:
    costs: list[Comparison | Timing] = [*view.stratum.timings]
    costs += [comparison for comparison in view.others if comparison.metric.key in COSTS]
    lines = [*filter(None, [measures.describe_shared_counts(view), *caveats.describe_budgets(view)])]
    return [
        Table("Other measures, each against the baseline", measures.build_cost_columns(view), MARKS_FOOT),
        Words([*lines, *caveats.describe_signals(view), *caveats.describe_fronts(view)]),
        *(figures.draw_front(view, cost, view.stratum.fronts) for cost in costs),
    ]


def _draw_losses_by_place(view: View, pool: Path | None) -> list[Item | None]:
    """Draw the loss by position in the window, and by how much text stands before it."""
    if pool is None:
        return []
    runs = _select_best_runs(view)
    averages = history.average_loss_by_position(runs, pool)
    by_position = {arm: dict(enumerate(losses)) for arm, losses in averages.items()}
    if view.comparison.metric == ACCURACY:  # of a synthetic task, most places of which ask nothing
        return [*draw_accuracy_by_difficulty(view, runs)]
    by_contexts: dict[str, dict[str, list[float]]] = {}
    for run in runs:
        for contexts in ("1x", "2x", "4x"):
            loss = run.values.get(f"val/loss_at_{contexts}")
            if loss is not None:
                by_contexts.setdefault(run.arm, {}).setdefault(contexts, []).append(loss)
    means: dict[str, dict[str, float]] = {}
    for arm, losses_by_contexts in by_contexts.items():
        means[arm] = {contexts: fmean(losses) for contexts, losses in losses_by_contexts.items()}
    return [
        figures.draw_lines("Loss by position in the window", "tokens before", by_position, view),
        figures.draw_lines(
            "Loss of the same targets after 1, 2 and 4 contexts", "contexts of text", means, view, type="category"
        ),
    ]


def _collect_texts(view: View, pool: Path | None) -> Texts | None:
    texts = history.read_arm_texts(_select_best_runs(view), pool) if pool else {}
    return Texts({view.short_name(arm): arm_texts for arm, arm_texts in texts.items()})


def _build_learning_rates(view: View) -> list[Item | None]:
    if not view.tunings:
        return []
    curves: dict[str, dict[float, float]] = {}
    for tuning in view.tunings:
        curves[tuning.arm] = {rate: loss for rate, loss in sorted(tuning.losses.items()) if loss is not None}
    return [
        Table("Mean loss at each rate, a star for the best", columns.build_tuning_columns(view)),
        figures.draw_lines("Loss over learning rate", "learning rate", curves, view, type="log"),
        Words([sentences.describe_tuning(view, tuning) for tuning in view.tunings]),
    ]


def _draw_sizes(findings: Findings, pool: Path | None) -> list[Figure]:
    """Draw loss over size, and, where models are an axis, what models of several sizes have besides."""
    scalings = figures.draw_scaling(findings.scalings)
    if pool is None or "model" not in findings.plan.axes:
        return scalings
    folders: dict[str, list[Path]] = {}
    for run in findings.runs:
        if run.role == "arm" and run.status == "finished" and run.folder:
            # the model is the size of a study, or one of its axes
            name = " ".join(filter(None, [run.size, run.arm])).replace("model=", "")
            folders.setdefault(name, []).append(pool / run.folder)
    return scalings + draw_size_figures(folders)


# -- what is open, threats, cost, commands, seeds


def _describe_open(views: list[View]) -> list[Sentence]:
    """Return the verdicts that more seeds, or another learning rate, may change."""
    verdicts = []
    for view in views:
        for arm in view.order:
            if arm == view.comparison.baseline or view.get_verdict(arm) in DECIDED:
                continue
            if contrast := view.contrasts.get(arm):
                verdicts.append(sentences.describe_contrast(view, view.comparison, contrast))
            else:
                verdicts.append(sentences.describe_missing_arm(view, arm))
    return give_commands_once(verdicts)


def _describe_threats(findings: Findings) -> list[Sentence | str]:
    return [*caveats.describe_rules(findings), *findings.notes, *caveats.list_caveats(findings)]


def _build_cost_table(findings: Findings) -> Table | None:
    """Return where the time went: runs by arm, and what each kind of work took."""
    groups: dict[str, list[Run]] = {}
    for run in findings.runs:
        # one that diverged took its time too
        if run.status in ("finished", "diverged"):
            role = ROLES.get(run.role, "")
            groups.setdefault(" ".join(filter(None, [run.size, run.arm, role])), []).append(run)
    if not groups:
        return None
    table = [Column("runs of", [*groups], left=True), Column("runs", [str(len(runs)) for runs in groups.values()])]
    for key, head in TIMES.items():
        cells = []
        for runs in groups.values():
            cells.append(format_duration(sum(run.values.get(key, 0.0) for run in runs)))
        table.append(Column(head, cells))
    return Table("Time of this machine, seeds together", table)


def _build_seed_columns(view: View) -> list[Column]:
    """Return the metric that decides, an arm a row, a seed a column."""
    runs = {(run.arm, run.seed): run for run in _select_best_runs(view)}
    table = [columns.build_name_column(view)]
    for seed in sorted({seed for _, seed in runs}):
        table.append(Column(f"seed {seed}", [_format_run(view, runs.get((arm, seed))) for arm in view.order]))
    return table


def _format_run(view: View, run: Run | None) -> str:
    """Return the metric of a run that finished, else its status; empty where there is no run."""
    if run is None:
        return ""
    value = run.values.get(view.comparison.metric.key) if run.status == "finished" else None
    return f"{value:.4f}" if value is not None else run.status
