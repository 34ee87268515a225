"""Looks at a study: what its plan of looks forbids, and racing from look to look with the arms that are still open."""

from collections.abc import Callable
from dataclasses import replace

from rich.console import Console

from gptlab.ablation.cells import make_baseline_cells, make_cells
from gptlab.ablation.options import StudyOptions
from gptlab.ablation.plan import Plan, estimate_run_times, set_outputs
from gptlab.ablation.question import StudySpec
from gptlab.ablation.study_json import choose_variance
from gptlab.config.typecheck import format_value, quote_for_shell
from gptlab.errors import Refused
from gptlab.report.text.looks import describe_plan_position, format_alpha, format_chance
from gptlab.runs.study_folder import StudyFolder
from gptlab.stats.results import Contrast

SizedArm = tuple[str, str]
"""A size and the name of an arm in it."""


def refuse_unfit_looks(study_folder: StudyFolder, spec: StudySpec) -> None:
    """Refuse a race of what trains nothing, and a plan other than that under which this study has been judged."""
    options = spec.options
    for knob, refused in {"until": "resolved", "design": "search"}.items():
        if spec.study.together and getattr(options, knob) == refused:
            raise Refused(f"{knob}={refused} does not go with study={options.kind}, which trains nothing; leave it out")
    if not (study_folder.path / "study.json").exists():
        return
    plan = study_folder.plan
    # a plan may be changed as long as nobody has looked: after that it would be chosen by what was seen
    if not plan.looks or not study_folder.read_looked():
        return
    if (plan.looks, plan.spending) != (options.looks, options.spending):
        planned = f"looks=[{','.join(map(str, plan.looks))}] spending={plan.spending}"
        raise Refused(
            f"looks={options.looks} spending={options.spending}: this study has been judged under another plan; "
            f"say {planned}, or give another name="
        )
    _refuse_other_seeds(study_folder, options.blocks)


def _refuse_other_seeds(study_folder: StudyFolder, seeds: list[int]) -> None:
    """Refuse seeds in place of those by which a study was judged: they would be a look that no plan has."""
    for judged in study_folder.read_judged_seeds():
        # more seeds, or the first so many of the same, are as the plan has it
        if not (judged <= {*seeds} or seeds == sorted(judged)[: len(seeds)]):
            now, before, both = (
                str(sorted(numbers)).replace(" ", "") for numbers in (seeds, judged, judged | {*seeds})
            )
            raise Refused(
                f"seeds={now}: this study has been judged by seeds {before}, and others "
                f"in their place are tried until they please; add to them, as in seeds={both}, or give another name="
            )


def refuse_other_judging(study_folder: StudyFolder, spec: StudySpec) -> None:
    """Refuse to judge a study otherwise than it has been judged: a metric or a margin chosen by what was seen is none.

    A winner is judged on fresh seeds once: by others, or one that other seeds choose, it would be judged anew.
    """
    from gptlab.report.findings import was_judged_without_budget

    if not (study_folder.path / "study.json").exists() or not study_folder.read_looked():
        return
    options, plan = spec.options, study_folder.plan
    now = {
        "decides": options.decides,
        "delta": options.delta,
        "variance": choose_variance(spec),
        "pairs": options.pairs,
    }
    now["baseline"] = next(iter(spec.baselines.values())).name
    # the margin follows from budgets, but not from those that came after a verdict
    if options.delta is None and not was_judged_without_budget(study_folder.path):
        now["budget"] = options.budget
    for knob, value in now.items():
        before = getattr(plan, knob)
        # an older study.json may not say which arm was the baseline
        if value == before or (knob == "baseline" and before is None):
            continue
        written, former = (f"{knob}={_write_value(setting)}" for setting in (value, before))
        raise Refused(
            f"{written}: this study has been judged by {former}, and other ways to judge are tried until one pleases; "
            f"say {former}, or give another name="
        )
    confirmation = {"seeds": options.blocks, "confirm": options.confirm}
    for judged in study_folder.read_confirmed() if options.confirm else ():
        if judged != confirmation:
            seeds, former = (str(judging["seeds"]).replace(" ", "") for judging in (confirmation, judged))
            raise Refused(
                f"confirm={options.confirm} seeds={seeds}: the winner has been judged on fresh seeds, as of "
                f"confirm={judged['confirm']} seeds={former}, and would be judged anew; say these, leave confirm out, "
                "or give another name="
            )


def _write_value(value: str | float | list[float] | None) -> str:
    return quote_for_shell(value) if isinstance(value, str) else format_value(value).replace(", ", ",")


def describe_looks(options: StudyOptions, alpha: float) -> str:
    """Return the line of the bill that says which look this will be."""
    if options.asks_on_fresh_seeds:
        seeds = f"{options.confirm} fresh seeds of the winner and the baseline"
        return f"one look, at {seeds}: alpha {format_alpha(alpha)}; what chooses is no question"
    planned = ", ".join(map(str, options.looks))
    if options.until == "resolved":
        return f"looks at {planned} seeds, from one to the next with the arms that are still open (until=resolved)"
    position = describe_plan_position(options.looks, options.spending, len(options.blocks), alpha)
    return f"looks at {planned} seeds: {position}"


def start_at_first_look(spec: StudySpec) -> StudySpec:
    """Return a study with the seeds of its first look, where it goes from look to look."""
    if spec.options.until != "resolved":
        return spec
    return replace(spec, options=replace(spec.options, seeds=spec.options.looks[0]))


def race_over_looks(plan: Plan, run: Callable[[], None], console: Console) -> None:
    """Go on from look to look, adding seeds to the baseline and to the arms that are still open, until none is.

    Every look is judged from the runs of its own seeds, so a study that is killed and started again takes the same
    ones.
    """
    # the cells of the first look have run when this is called
    for number, seeds in enumerate(plan.spec.options.looks[1:], 2):
        open_arms = _judge(plan, console, number - 1)
        if not open_arms:
            return
        plan.spec = replace(plan.spec, options=replace(plan.spec.options, seeds=seeds))
        _add_seeds(plan, open_arms)
        estimate_run_times(plan)
        run()


def _judge(plan: Plan, console: Console, number: int) -> set[SizedArm]:
    """Record a look, print what it decides, and return the arms that another one may still resolve."""
    from gptlab.report.findings import compare_study_folder

    options = plan.spec.options
    # before the comparison: the alpha of this look is spent, whether or not anybody reads the result
    plan.folder.record_event("", "compared", seeds=options.blocks, budget=options.budget)
    open_arms, phrases = set(), []
    for stratum in compare_study_folder(plan.folder.path).strata:
        raced = {run.arm for run in stratum.runs if run.seed == options.blocks[-1]}  # not ended by an earlier look
        for contrast in stratum.comparisons[0].contrasts:
            if contrast.arm not in raced:
                continue
            name = f"{stratum.size}/{contrast.arm}".lstrip("/")
            phrases.append(f"{name} {_describe(contrast)}")
            # more_seeds is None where even the last look could hardly resolve it
            if contrast.verdict == "not resolved" and contrast.more_seeds:
                open_arms.add((stratum.size, contrast.arm))
    console.print(
        f"  look {number} of {len(options.looks)}, {len(options.blocks)} seeds: {'; '.join(phrases)}",
        markup=False,
        soft_wrap=True,
    )
    return open_arms


def _describe(contrast: Contrast) -> str:
    if contrast.verdict != "not resolved" or contrast.chance_at_last is None:
        return contrast.verdict
    if contrast.more_seeds is None:
        return f"stops: the last look would resolve it in {format_chance(contrast.chance_at_last)} of cases"
    return f"open (the last look resolves it in {format_chance(contrast.chance_at_last)} of cases)"


def _add_seeds(plan: Plan, open_arms: set[SizedArm]) -> None:
    """Add the cells of the open arms, of their baselines, and what goes with these, up to the study's seeds."""
    open_sizes = {size for size, _ in open_arms}
    baselines = {size: variant for size, variant in plan.baselines.items() if size in open_sizes}
    variants = []
    for variant in plan.variants:
        if (variant.size, variant.name) in open_arms or baselines.get(variant.size) is variant:
            variants.append(set_outputs(variant, plan))
    plan.add_cells(make_cells(plan.spec.options, variants))
    for variant in baselines.values():
        plan.add_cells(make_baseline_cells(plan.spec.options, set_outputs(variant, plan)))
