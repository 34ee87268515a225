"""Findings for the program that asked: verdicts as plain data, and the exit status that they stand for."""

from collections import Counter
from dataclasses import asdict
from typing import Any

from gptlab.stats.results import Comparison, Contrast, Findings, Stratum
from gptlab.stats.study_comparison import sees_small_compute

DECIDED, UNFINISHED, NOT_RESOLVED, UNSTABLE = 0, 1, 3, 4
"""Exit statuses of a study, the first that holds: 1 cells failed, 4 seeds diverged, 3 not resolved, 0 all decided."""


def answer_with_findings(findings: Findings) -> dict[str, Any]:
    """Return the verdicts of a study, one entry for each arm less its baseline, and what they rest on."""
    verdicts = []
    for stratum, comparison in _list_deciding(findings):
        verdicts += [_describe_contrast(stratum, comparison, contrast) for contrast in comparison.contrasts]
    return {
        "study": findings.study,
        "verdicts": verdicts,
        **({"ladder": asdict(findings.ladder)} if findings.ladder else {}),
        **_describe_side_questions(findings),
        "notes": [*findings.mismatch, *findings.notes],
        "runs": dict(Counter(run.status for run in findings.runs)),
        "seconds": findings.seconds,
    }


def choose_status(findings: Findings) -> int:
    """Return the exit status that the verdicts stand for."""
    deciding = _list_deciding(findings)
    if findings.plan.asks_on_fresh_seeds:
        # the other verdicts choose, and decide nothing
        deciding = [(stratum, comparison) for stratum, comparison in deciding if comparison is stratum.confirmed]
    verdicts = {contrast.verdict for _, comparison in deciding for contrast in comparison.contrasts}
    # unfinished first: verdicts over part of the cells may change when the rest comes
    if any(run.status not in ("finished", "diverged") for run in findings.runs):
        return UNFINISHED
    if "unstable" in verdicts or any(arm.diverged for _, comparison in deciding for arm in comparison.arms):
        return UNSTABLE
    is_open = findings.plan.asks_on_fresh_seeds and not verdicts  # no winner has been confirmed
    is_open |= any(_lacks_verdicts(comparison) for _, comparison in deciding)
    return NOT_RESOLVED if is_open or verdicts & {"not resolved", "no verdict"} else DECIDED


def _lacks_verdicts(comparison: Comparison) -> bool:
    """Whether an arm has no verdict at all, since it and the baseline have no seed in common, or no such number."""
    judged = {comparison.baseline, *(contrast.arm for contrast in comparison.contrasts)}
    return any(arm.arm not in judged for arm in comparison.arms)


def _list_deciding(findings: Findings) -> list[tuple[Stratum, Comparison]]:
    """Return of each size the comparison that decides, and that on fresh seeds where there is one."""
    pairs = [(stratum, stratum.comparisons[0]) for stratum in findings.strata if stratum.comparisons]
    # a winner that fresh seeds do not confirm is not decided
    return pairs + [(stratum, stratum.confirmed) for stratum in findings.strata if stratum.confirmed]


def _describe_side_questions(findings: Findings) -> dict[str, Any]:
    """Return the findings of controls=true by size, and the interactions of a grid; without either, empty."""
    answers: dict[str, list[dict[str, Any]]] = {"controls": [], "interactions": []}
    for stratum in findings.strata:
        # the negative control, of what was run by an older gptlab, may be missing
        if stratum.controls and stratum.controls.contrasts:
            answers["controls"].append(_describe_controls(stratum, stratum.controls))
        for interaction in stratum.interactions:
            answers["interactions"].append({"size": stratum.size, **asdict(interaction)})
    return {question: entries for question, entries in answers.items() if entries}


def _describe_controls(stratum: Stratum, controls: Comparison) -> dict[str, Any]:
    noise = stratum.comparisons[0].noise
    return {
        "size": stratum.size,
        "sees_5_percent": sees_small_compute(controls),
        "twin": noise.twin if noise else None,
        "verdicts": [_describe_contrast(stratum, controls, contrast) for contrast in controls.contrasts],
    }


def _describe_contrast(stratum: Stratum, comparison: Comparison, contrast: Contrast) -> dict[str, Any]:
    """Return the entry of one verdict; its keys are a contract (docs/programs.md)."""
    return {
        "size": stratum.size,
        "arm": contrast.arm,
        "against": contrast.against,
        "confirmed": comparison is stratum.confirmed,
        "metric": comparison.metric.key,
        "unit": comparison.metric.unit,
        "better": comparison.metric.better,
        "seeds": list(contrast.seeds),
        "difference": contrast.difference,
        "low": contrast.low,
        "high": contrast.high,
        "p_holm": contrast.p_holm,
        "delta": comparison.delta,
        "verdict": contrast.verdict,
        "label": contrast.label,
        "level": contrast.level,
        "exploratory": contrast.exploratory,
        "more_seeds": contrast.more_seeds,
        "next_look": contrast.next_look,
        "chance": contrast.chance,
    }
