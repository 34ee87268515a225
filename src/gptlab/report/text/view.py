"""One size of a study as it is shown: its arms in their order, by names that a table has room for."""

import re
import shlex
from dataclasses import dataclass
from functools import cached_property

from gptlab.report.text.markup import bold
from gptlab.stats.labels import SizePoint, label_arm, read_point
from gptlab.stats.results import Comparison, Contrast, Findings, Stratum, Timing, Tuning
from gptlab.stats.study_plan import StudyPlan

MARKS = {"better": "✓", "worse": "✗", "equivalent": "=", "not resolved": "?", "unstable": "!"}
"""Verdicts where a word has no room."""
MARKS_FOOT = ", ".join(f"{mark} {verdict}" for verdict, mark in MARKS.items()) + "."
"""Line below a table that has marks."""


@dataclass(frozen=True)
class View:
    """One size of a study.

    comparison  the metric that decides
    """

    plan: StudyPlan
    stratum: Stratum
    comparison: Comparison

    @property
    def others(self) -> list[Comparison]:
        """The metrics that do not decide."""
        return [comparison for comparison in self.stratum.comparisons if comparison is not self.comparison]

    @cached_property
    def contrasts(self) -> dict[str, Contrast]:
        """The contrasts with the baseline, by arm, of the arms that could be compared."""
        return {contrast.arm: contrast for contrast in self.comparison.contrasts}

    @cached_property
    def order(self) -> list[str]:
        """The baseline, then the arms by difference, best first; then those unstable or not compared."""

        def rank_arm(arm: str) -> tuple[bool, int, float, str]:
            contrast = self.contrasts.get(arm)
            group = 2 if contrast is None else int(contrast.verdict == "unstable")
            signed_difference = self.sign * contrast.difference if contrast else 0.0
            return arm != self.comparison.baseline, group, signed_difference, arm

        return sorted((row.arm for row in self.comparison.arms), key=rank_arm)

    @property
    def sign(self) -> int:
        """1 where lower is better, else -1."""
        return 1 if self.comparison.metric.better == "lower" else -1

    @cached_property
    def axis(self) -> str:
        """The one axis of the study; empty if it has several."""
        arms = [self.plan.get_values(arm) for arm in self.order]
        # "" for an arm of several knobs, which then is an element of its own
        axes = {values[0][0] if len(values) == 1 else "" for values in arms}
        return axes.pop() if len(axes) == 1 else ""

    @cached_property
    def names(self) -> dict[str, str]:
        """Short names by arm: the value on the one axis, else the words that differ from the baseline."""
        baseline = self.comparison.baseline
        arms = {arm: self.plan.get_values(arm) for arm in self.order}
        if self.axis:
            return {arm: values[0][1] for arm, values in arms.items()}
        of_baseline = self.plan.get_values(baseline)
        names = {}
        for arm, values in arms.items():
            # the words that the baseline has too would fill every row
            changed = tuple(pair for pair in values if pair not in of_baseline)
            names[arm] = label_arm(changed) if changed else arm
        if "baseline" in names and baseline != "baseline":  # compared once more, with another arm
            names["baseline"] = "the study's baseline"
        names[baseline] = "baseline" if len(of_baseline) > 1 else baseline
        # two arms may differ only in words that the baseline has too
        is_unique = len({*names.values()}) == len(names)
        return names if is_unique else {arm: arm for arm in self.order}

    def short_name(self, arm: str) -> str:
        """Return the short name of an arm."""
        return self.names.get(arm, arm)

    def find_point(self, arm: str) -> SizePoint | None:
        """Return the point of a curve that an arm is, less what it shares with the baseline; None for others."""
        if self.axis:  # the arms' values are the names of the lines
            return None
        values, of_baseline = self.plan.get_values(arm), self.plan.get_values(self.comparison.baseline)
        if self.short_name(arm) != arm:
            values = tuple(pair for pair in values if pair not in of_baseline)
        return read_point(values)

    def bold_name(self, arm: str) -> str:
        """Return the short name of an arm as a bold part of a template."""
        return bold(self.short_name(arm))

    def get_verdict(self, arm: str) -> str:
        """Return the verdict of an arm as the table prints it."""
        if arm == self.comparison.baseline:
            return "baseline"
        if arm in self.contrasts:
            return self.contrasts[arm].verdict
        row = next(row for row in self.comparison.arms if row.arm == arm)
        # without a contrast: no seed in common with the baseline, or one seed alone
        if row.diverged:
            return "unstable"
        return "failed" if row.failed else "no verdict"

    def label_verdict(self, arm: str) -> str:
        """Return the verdict of an arm, and whether it is exploratory."""
        return self.contrasts[arm].label if arm in self.contrasts else self.get_verdict(arm)

    @property
    def tunings(self) -> list[Tuning]:
        """The grids of learning rates, in the order of the arms."""
        by_arm = {tuning.arm: tuning for tuning in self.stratum.tunings}
        return [by_arm[arm] for arm in self.order if arm in by_arm]

    @property
    def notes(self) -> list[str]:
        """The noise that stands out in the metric that decides, and the notes of all comparisons, each once."""
        notes = dict.fromkeys(self.comparison.noisy)
        for comparison in self.stratum.comparisons:
            notes |= dict.fromkeys(comparison.notes)
        return [*notes]

    def find_comparison(self, key: str) -> Comparison | None:
        """Return the comparison of a metric; None if it was not compared."""
        return next((item for item in self.stratum.comparisons if item.metric.key == key), None)

    def find_timing(self, key: str) -> Timing | None:
        """Return the timing of a metric; None if it was not timed."""
        return next((timing for timing in self.stratum.timings if timing.metric.key == key), None)


def make_views(findings: Findings) -> list[View]:
    """Return a view of each size of which some run finished."""
    return [View(findings.plan, stratum, stratum.comparisons[0]) for stratum in findings.strata if stratum.comparisons]


def pluralize(number: int, noun: str) -> str:
    """Return "1 seed", "2 seeds"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def build_command(plan: StudyPlan, extra_seeds: int = 0) -> str:
    """Return the command of a study with so many more seeds; empty where no command made it."""
    words = plan.command
    if extra_seeds and words:
        seeds = [*plan.seeds]
        first_new = max(seeds, default=-1) + 1
        seeds += range(first_new, first_new + extra_seeds)
        is_range = seeds == list(range(len(seeds)))
        # Hydra takes + and ++ before a key
        words = [word for word in words if not word.lstrip("+").startswith("seeds=")]
        words.append(f"seeds={len(seeds)}" if is_range else f"seeds=[{','.join(map(str, seeds))}]")
    return shlex.join(words)


MAX_TITLE = 100
"""Characters of a study's question as a title."""


def title_study(plan: StudyPlan) -> str:
    """Return a study's name as one reads it: the one that it was given, else its question, cut between values alone.

    The hash at the end is that of the folder, by which it is found.
    """
    own = re.fullmatch(r".*-([0-9a-f]{6})", plan.study)
    axes = plan.axes or ({"arms": [*plan.arms]} if plan.arms else {})
    if own is None or not axes:  # a name that somebody gave
        return plan.study
    # as many values as there is room for, of each axis as many; then the axes alone
    titles = []
    for count in range(30, 0, -1):
        titles.append("; ".join(f"{axis}: {_list_some(values, count)}" for axis, values in axes.items()))
    for count in range(len(axes), 0, -1):
        titles.append(f"{len(axes)} axes: {_list_some([*axes], count)}")
    title = next((title for title in titles if len(title) <= MAX_TITLE), titles[-1])
    return f"{title} ({own[1]})"


def _list_some(values: list[str], count: int) -> str:
    """Return the first values, and how many more there are."""
    shown = ", ".join(map(str, values[:count]))
    return shown if len(values) <= count else f"{shown} and {len(values) - count} more"
