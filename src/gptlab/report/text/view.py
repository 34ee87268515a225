"""One size of a study as it is shown: its arms in their order, by names that a table has room for."""

import shlex
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gptlab.stats.results import Comparison, Contrast, Findings, Stratum, Timing, Tuning

MARKS = {"better": "✓", "worse": "✗", "equivalent": "=", "not resolved": "?", "unstable": "!"}
"""Verdicts where a word has no room."""


class Strong(str):
    """Words of weight in a sentence: arms and verdicts."""


@dataclass(frozen=True)
class Sentence:
    """What is said, some of it strong, and the command that it speaks of. Each output escapes the parts its own way."""

    parts: tuple[str, ...]
    command: str = ""

    def __str__(self) -> str:
        return "".join(self.parts)


def said(*parts: str, command: str = "") -> Sentence:
    """A sentence of these parts."""
    return Sentence(parts, command)


@dataclass(frozen=True)
class View:
    """One size. `comparison` is the metric that decides."""

    asked: dict[str, Any]
    stratum: Stratum
    comparison: Comparison

    @property
    def others(self) -> list[Comparison]:
        """The metrics that do not decide."""
        return [one for one in self.stratum.comparisons if one is not self.comparison]

    @cached_property
    def contrasts(self) -> dict[str, Contrast]:
        """Arms that could be compared."""
        return {one.arm: one for one in self.comparison.contrasts}

    @cached_property
    def order(self) -> list[str]:
        """The baseline, then by difference, best first; then what is unstable or was not compared."""

        def place(arm: str) -> tuple[bool, int, float, str]:
            one = self.contrasts.get(arm)
            last = 2 if one is None else int(one.verdict == "unstable")
            return arm != self.comparison.baseline, last, self.sign * one.difference if one else 0.0, arm

        return sorted((one.arm for one in self.comparison.arms), key=place)

    @property
    def sign(self) -> int:
        """1 where lower is better."""
        return 1 if self.comparison.metric.better == "lower" else -1

    @cached_property
    def axis(self) -> str:
        """The one axis of the study, if it has one."""
        axes = {arm.partition("=")[0] if "=" in arm and " " not in arm else "" for arm in self.order}
        return axes.pop() if len(axes) == 1 else ""

    @cached_property
    def names(self) -> dict[str, str]:
        """Arms by their value on the one axis, else by what differs from the baseline."""
        base = self.comparison.baseline
        if self.axis:
            return {arm: arm.partition("=")[2] for arm in self.order}
        usual = base.split()
        short = {arm: " ".join(word for word in arm.split() if word not in usual) or arm for arm in self.order}
        short[base] = "baseline" if " " in base else base
        return short if len({*short.values()}) == len(short) else {arm: arm for arm in self.order}

    def name(self, arm: str) -> Strong:
        """An arm, in a sentence."""
        return Strong(self.names.get(arm, arm))

    def verdict(self, arm: str) -> str:
        """What the table says of an arm."""
        if arm == self.comparison.baseline:
            return "baseline"
        if arm in self.contrasts:
            return self.contrasts[arm].verdict
        row = next(one for one in self.comparison.arms if one.arm == arm)
        return "unstable" if row.diverged else "failed" if row.failed else "no verdict"

    @property
    def tunings(self) -> list[Tuning]:
        """The grids of learning rates, in the order of the arms."""
        found = {one.arm: one for one in self.stratum.tunings}
        return [found[arm] for arm in self.order if arm in found]

    @property
    def notes(self) -> list[str]:
        """What the comparisons have to say of themselves, once each."""
        return list(dict.fromkeys(note for one in self.stratum.comparisons for note in one.notes))

    def metric(self, key: str) -> Comparison | None:
        """The comparison of a metric, if it was made."""
        return next((one for one in self.stratum.comparisons if one.metric.key == key), None)

    def timing(self, key: str) -> Timing | None:
        """The timing of a metric, if it was taken."""
        return next((one for one in self.stratum.timings if one.metric.key == key), None)


def plural(number: int, what: str) -> str:
    """1 seed, 2 seeds."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def views(findings: Findings) -> list[View]:
    """Each size of which some run finished."""
    return [View(findings.asked, one, one.comparisons[0]) for one in findings.strata if one.comparisons]


def seeds(asked: dict[str, Any]) -> list[int]:
    """The seeds that were asked for; 3 means 0, 1, 2."""
    given = asked.get("seeds") or []
    return list(range(given)) if isinstance(given, int) else list(given)


def command(asked: dict[str, Any], more: int = 0) -> str:
    """The command of the study, with so many more seeds; empty where no command made it."""
    words = [str(word) for word in asked.get("command") or []]
    if more and words:
        old = seeds(asked)
        new = [*old, *range(max(old, default=-1) + 1, max(old, default=-1) + 1 + more)]
        plain = new == list(range(len(new)))
        words = [word for word in words if not word.lstrip("+").startswith("seeds=")]
        words.append(f"seeds={len(new)}" if plain else f"seeds=[{','.join(map(str, new))}]")
    return shlex.join(words)
