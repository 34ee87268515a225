"""register=true: freeze and print what a study asks, and how it will be judged, before its first run."""

from typing import Any

from rich.console import Console

from gptlab.ablation.options import StudyOptions
from gptlab.ablation.plan import Plan
from gptlab.ablation.question import StudySpec
from gptlab.ablation.study_json import start_study_plan
from gptlab.config.places import read_command
from gptlab.console.json_answer import add_to_answer
from gptlab.errors import Refused
from gptlab.report.text.looks import describe_plan
from gptlab.runs.fingerprint import fingerprint_recipe
from gptlab.runs.registration import (
    FROZEN,
    SHOWN,
    read_registration,
    refuse_changed_plan,
    summarize_registration,
    write_registration,
)
from gptlab.runs.study_folder import StudyFolder
from gptlab.stats.comparability import BITS
from gptlab.stats.metric_comparison import ACCURACY_MARGIN, DEFAULT_MARGIN_SHARE
from gptlab.stats.results import ACCURACY, METRICS, TEST, Metric, make_metric


def refuse_unfit_registration(study_folder: StudyFolder, spec: StudySpec) -> None:
    """Refuse a command other than a registered plan, and to register what trains nothing or has begun already."""
    # first, and without register=true too: a registered plan binds every later command
    refuse_changed_plan(study_folder.path, _freeze(spec))
    if not spec.options.register or read_registration(study_folder.path) is not None:
        return
    if spec.study.together:
        raise Refused(f"register=true does not go with study={spec.options.kind}, which trains nothing; leave it out")
    _refuse_unplanned_seeds(spec.options)
    if study_folder.read_states():
        raise Refused(
            f"register=true: {spec.name} has begun, and a plan is registered before its first run; give another name="
        )


def _refuse_unplanned_seeds(options: StudyOptions) -> None:
    """Refuse to register a plan that its own command breaks, by judging where no look is planned."""
    seeds, looks = len(options.blocks), options.looks
    # a race goes from look to look whatever seeds= says; a campaign's choice has one look, at fresh seeds
    if seeds in looks or options.until == "resolved" or options.asks_on_fresh_seeds:
        return
    raise Refused(
        f"register=true looks at {', '.join(map(str, looks))} seeds, and seeds={seeds} would judge where no look is "
        f"planned; say seeds={looks[0]}, or looks=[{max(seeds, 2)}]"
    )


def register_plan(plan: Plan, console: Console) -> None:
    """Write the plan of a study that has not begun, if it was asked for, and print the one that is registered."""
    spec, folder = plan.spec, plan.folder.path
    # one registered by an earlier command is printed again
    registered = read_registration(folder)
    if registered is None and spec.options.register:
        registered = write_registration(folder, _freeze(spec), _describe_facts(plan))
    if registered is None:
        return
    add_to_answer(registered=registered)
    known = registered["known_runs"]
    console.print(
        f"\n  plan {summarize_registration(registered)}"
        + (f"; {known} of its runs were there already" if known else ", before any run"),
        markup=False,
    )
    for name, line in _describe_plan(registered).items():
        console.print(f"    {name:9} {line}", markup=False, soft_wrap=True)


def _freeze(spec: StudySpec) -> dict[str, Any]:
    """Return the values of a study's plan that stay as they are registered."""
    # the function that fills study.json, so that both are written alike and compare as texts
    document = start_study_plan(spec, spec.variants).to_document()
    # the knob may be null; what is frozen is the arm that it came to
    document["baseline"] = next(iter(spec.baselines.values())).name
    return {key: document[key] for key in FROZEN}


def _describe_facts(plan: Plan) -> dict[str, Any]:
    """Return the question, metric and margin of a study, and hashes of its code and data."""
    spec, options = plan.spec, plan.spec.options
    sizes_by_metric: dict[Metric, list[str]] = {}
    for size in spec.baselines:
        sizes_by_metric.setdefault(_choose_metric(spec, size), []).append(size)
    metrics, margins = [], []
    for metric, sizes in sizes_by_metric.items():
        # tasks may be judged by other metrics; each is named with those that it judges
        where = f" ({', '.join(sizes)})" if len(sizes_by_metric) > 1 else ""
        metrics.append(f"{metric.key} in {metric.unit}, {metric.better} is better{where}")
        margins.append(f"{_describe_margin(options, metric)}{where}")
    code = {variant.key: fingerprint_recipe(variant.recipe) for variant in spec.variants}
    texts = {plan.costs.load_corpus(variant.recipe).sha256 for variant in spec.variants}
    return {
        "study": spec.name,
        "question": " ".join(read_command()),
        "metric": "; ".join(metrics),
        "margin": "; ".join(margins),
        "code": code,
        "data": sorted(texts),
        "known_runs": len(plan.finished_runs),
        "families": len(options.tasks or [1]),  # tasks, each with a baseline of its own
    }


def _choose_metric(spec: StudySpec, size: str) -> Metric:
    """Return the metric that will decide at a size or in a task, as the comparison chooses it."""
    configs = [variant.recipe.config for variant in spec.variants if variant.size == size]
    if spec.options.decides:
        return make_metric(spec.options.decides)
    if spec.options.design == "search":
        return TEST
    # in the order of stats/comparability.py, which has runs to ask and this has not
    if all({"answer_accuracy", "written_answers"} & {*config["metric"]} for config in configs):
        return ACCURACY
    return BITS if len({repr(config["tokenizer"]) for config in configs}) > 1 else METRICS[0]


def _describe_margin(options: StudyOptions, metric: Metric) -> str:
    if options.delta is not None:
        return f"{options.delta:g} {metric.unit}"
    if metric == ACCURACY:
        return f"{ACCURACY_MARGIN:g} {metric.unit}"
    if options.budget and metric in (METRICS[0], TEST):
        return f"what 2 % of compute is worth, from budget={options.budget}"
    return f"{100 * DEFAULT_MARGIN_SHARE:g} % of the baseline's mean"


def _describe_plan(registered: dict[str, Any]) -> dict[str, str]:
    """Return the printed lines of a registered plan, by name."""
    plan = registered["plan"]
    # each task has a baseline, which is compared with nothing
    comparisons = len(plan["arms"]) - registered.get("families", 1)
    arms = ", ".join(plan["arms"])
    codes = ", ".join(sorted(set(registered["code"].values())))
    return {
        "question": registered["question"],
        "arms": f"{arms}; against {plan['baseline']}",
        "metric": registered["metric"],
        "margin": f"equivalent within {registered['margin']}",
        "looks": f"{describe_plan(plan['looks'], plan['spending'], plan['alpha'])} Holm over {comparisons}",
        "code": codes,
        "data": ", ".join(sha256[:SHOWN] for sha256 in registered["data"]),
    }
