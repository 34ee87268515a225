"""Facts that the runs of arms have in common: they decide the unit of the verdict, or that there is none.

A loss in nats per token compares arms of one tokenizer; bits per byte also compares those of several, on the same text.
Arms that have all losses in common are one arm under two names, and counted as one.
"""

import statistics
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from gptlab.stats.contrasts import contrast_without_interval
from gptlab.stats.downstream.tasks import is_task_key
from gptlab.stats.paired_tests import Table
from gptlab.stats.results import ACCURACY, METRICS, TEST, Comparison, Contrast, Metric, Run, make_metric
from gptlab.stats.study_plan import StudyPlan

BITS = next(metric for metric in METRICS if metric.key == "val/bits_per_byte")
ORDER_FACTS = {
    "data_sha256": "text",
    "data.validation": "data.validation",
    "tokenizer": "tokenizer",
    "batch_size": "batch_size",
    "model.context": "model.context",
    "steps": "steps",
}
"""Facts that decide which tokens are learnt from and in which order, and how they are called."""

JUDGING_FACTS = {
    "data_sha256": "text",
    "data.validation": "data.validation",
    "evaluation.part": "evaluation.part",
    "evaluation.final": "evaluation.final",
}
"""Facts that decide by which tokens an arm is judged."""


def list_differing(runs: Iterable[Run], facts: Iterable[str]) -> list[str]:
    """Return those facts that arms which finished do not share; a fact that a run lacks is not known to differ."""
    arms = [run for run in runs if run.role == "arm" and run.status == "finished"]
    differing = []
    for fact in facts:
        # runs of before a fact was kept do not have it
        values = {run.facts[fact] for run in arms if fact in run.facts}
        if len(values) > 1:
            differing.append(fact)
    return differing


def choose_usual_metric(plan: StudyPlan, runs: list[Run]) -> Metric:
    """Return the metric that decides: the one asked for, the accuracy for synthetic tasks, else the loss.

    A search is judged by the half of the split that no trial was chosen by.
    """
    if plan.decides:
        return make_metric(plan.decides)
    if plan.design == "search":
        return TEST
    finished = [run for run in runs if run.status == "finished"]
    return ACCURACY if finished and all(ACCURACY.key in run.values for run in finished) else METRICS[0]


def choose_metric(runs: list[Run], usual: Metric) -> tuple[Metric, str]:
    """Return the metric that decides, and why no verdict can be given, "" if one can."""
    if is_task_key(usual.key):  # of any tokenizer and any text, as long as the questions are the same
        differ = bool(list_differing(runs, ("tasks",)))
        return usual, "the arms differ in the files of their tasks, so they are not judged alike: no verdict" * differ
    # another text has another entropy: no unit makes losses on two texts comparable
    if differing := list_differing(runs, JUDGING_FACTS):
        names = " and ".join(JUDGING_FACTS[fact] for fact in differing)
        return usual, f"the arms differ in {names}, so they are not judged by the same text: no verdict"
    if not list_differing(runs, ("tokenizer",)):
        return usual, ""
    finished = [run for run in runs if run.role == "arm" and run.status == "finished"]
    # all or none: a mean over the arms that have it would compare other things
    if usual.key == METRICS[0].key and all(BITS.key in run.values for run in finished):
        return BITS, ""
    return usual, "the arms have different tokenizers and no bits per byte to be judged by: no verdict"


def withhold_verdicts(comparison: Comparison, reason: str) -> Comparison:
    """Return a comparison without intervals and verdicts, which says why."""

    def withhold(contrasts: list[Contrast]) -> list[Contrast]:
        bare = []
        for contrast in contrasts:
            pair, means = (contrast.arm, contrast.against), (contrast.mean, contrast.against_mean)
            bare.append(contrast_without_interval(pair, contrast.seeds, means, "no verdict"))
        return bare

    return replace(
        comparison,
        contrasts=withhold(comparison.contrasts),
        pairs=withhold(comparison.pairs),
        noise=None,
        notes=[*comparison.notes, reason],
    )


def find_doubles(losses: Table, baseline: str, looked: Collection[int]) -> dict[str, str]:
    """Return, for each arm whose losses are those of another one to the bit, that one: one arm with two names.

    From two seeds on; the baseline comes first. An arm that stopped at a look is compared by the seeds that it has.

    looked  numbers of seeds at which the study has been judged
    """
    firsts: dict[str, Mapping[int, float]] = {}
    doubles = {}
    for arm in sorted(losses, key=lambda arm: (arm != baseline, arm)):
        row = losses[arm]
        first = next((name for name, other in firsts.items() if _are_equal(row, other, looked)), None)
        if first is None:
            firsts[arm] = row
        else:
            doubles[arm] = first
    return doubles


def _are_equal(row: Mapping[int, float], other: Mapping[int, float], looked: Collection[int]) -> bool:
    # an arm that a look has decided has fewer seeds than its double: these may be all that it will ever have
    both = sorted({*row} & {*other})
    has_all = {*row} == {*other} or len(row) in looked
    return len(both) > 1 and has_all and all(row[seed] == other[seed] for seed in both)


def add_doubles(contrasts: list[Contrast], doubles: dict[str, str], values: Table, baseline: str) -> list[Contrast]:
    """Return the contrasts with those of second names, which are the first one's and were not counted."""
    by_arm = {contrast.arm: contrast for contrast in contrasts}
    added = []
    for arm, first in doubles.items():
        if first in by_arm:
            added.append(replace(by_arm[first], arm=arm))
        # no contrast of the baseline with itself is there to copy
        elif first == baseline:
            seeds = tuple(sorted({*values.get(arm, {})} & {*values.get(baseline, {})}))
            if seeds:
                mean = statistics.fmean(values[baseline][seed] for seed in seeds)
                added.append(contrast_without_interval((arm, baseline), seeds, (mean, mean), "equivalent"))
    return sorted([*contrasts, *added], key=lambda contrast: (contrast.arm, contrast.against))


def describe_doubles(doubles: dict[str, str], values: Table) -> list[str]:
    """Return a note for each arm with two names."""
    notes = []
    for arm, first in doubles.items():
        seeds = len(values.get(arm, ()))
        if not seeds:  # of a metric that it has not; the loss has the note
            continue
        notes.append(f"{arm} and {first} are one arm with two names: equal losses in all {seeds} seeds, counted as one")
    return notes
