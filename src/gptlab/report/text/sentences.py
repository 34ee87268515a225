"""What is found, in sentences: one verdict an arm, with its size, its certainty and its price."""

import math

from gptlab.console import units
from gptlab.report.text.costs import Price, net, price, told
from gptlab.report.text.numbers import chance, fixed, places, signed, span, supported
from gptlab.report.text.view import Sentence, Strong, View, command, plural, said
from gptlab.stats.results import Comparison, Contrast, Findings, Run, Tuning


def verdicts(view: View) -> list[Sentence]:
    """A sentence for each arm but the baseline, in the order of the table."""
    rest = [arm for arm in view.order if arm != view.comparison.baseline]
    return [
        verdict(view, view.comparison, view.contrasts[arm]) if arm in view.contrasts else lost(view, arm)
        for arm in rest
    ]


def verdict(view: View, comparison: Comparison, contrast: Contrast) -> Sentence:
    """What one contrast says."""
    if contrast.verdict in ("better", "worse"):
        return _decided(view, comparison, contrast)
    if contrast.verdict == "equivalent":
        return _equivalent(view, comparison, contrast)
    if contrast.verdict == "unstable":
        return unstable(view, comparison, contrast.arm)
    return _open(view, comparison, contrast)


def lost(view: View, arm: str) -> Sentence:
    """An arm that shares no finished seed with the baseline."""
    row = next(one for one in view.comparison.arms if one.arm == arm)
    if row.diverged:
        return unstable(view, view.comparison, arm)
    name = view.name(arm)
    why = f"{row.failed} of its runs failed" if row.failed else "it shares no finished seed with the baseline"
    return said(name, ": ", Strong("no verdict"), f"; {why}.")


def unstable(view: View, comparison: Comparison, arm: str) -> Sentence:
    """An arm of which some seeds diverged."""
    row = next(one for one in comparison.arms if one.arm == arm)
    many = f" diverged in {row.diverged} of {row.finished + row.diverged + row.failed} seeds; "
    rest = "no run finished. " if not row.finished else "the loss of those that finished cannot be compared. "
    rate = "at every learning rate of the grid" if view.asked.get("tune") == "grid" else "at the shared learning rate"
    return said(view.name(arm), many, rest, "Verdict: ", Strong("unstable"), f" {rate}.")


def evidence(comparison: Comparison, contrast: Contrast) -> str:
    """On how many seeds, by which variance, how likely by chance."""
    many, tests = len(contrast.seeds), len(comparison.contrasts)
    parts = [f"{many} paired seeds", f"{comparison.variance} variance"]
    if contrast.verdict in ("better", "worse"):
        holm = f" by Holm over {tests}" if tests > 1 else ""
        own = f", {chance(contrast.p_own)} with its own variance" if comparison.variance != "own" else ""
        parts.append(f"p {compared(contrast.p_holm)}{holm}{own}")
    return "; ".join(parts)


def compared(p: float) -> str:
    """A p-value after its sign."""
    return chance(p) if p < 0.001 else f"= {chance(p)}"


def _decided(view: View, comparison: Comparison, contrast: Contrast) -> Sentence:
    decimals = supported(contrast, comparison.delta)
    ends = sorted((contrast.low, contrast.high))
    if contrast.difference < 0:
        ends = [-ends[1], -ends[0]]
    size = f"{fixed(abs(contrast.difference), decimals)} {comparison.metric.unit}"
    sure = f" (95 % interval {span(ends[0], ends[1], decimals)}; {evidence(comparison, contrast)})."
    does = " beats " if contrast.verdict == "better" else " is worse than "
    parts = [view.name(contrast.arm), does, view.name(contrast.against), f" by {size}", sure]
    if comparison is view.comparison:
        parts += [*told(view, contrast.arm), *net(view, contrast.arm)]
    return said(*parts)


def _equivalent(view: View, comparison: Comparison, contrast: Contrast) -> Sentence:
    margin = fixed(comparison.delta, places(comparison.delta))
    decimals = supported(contrast, comparison.delta)
    within = f" within {margin} {comparison.metric.unit}"
    sure = f" (90 % interval {span(contrast.low90, contrast.high90, decimals)}; {evidence(comparison, contrast)})."
    same = contrast.low90 == contrast.high90 == 0
    sure = " (no difference at all)." if same else f"{sure} {bound(comparison, contrast)}"
    parts = [view.name(contrast.arm), " and ", view.name(contrast.against), " are ", Strong("equivalent"), within, sure]
    if comparison is view.comparison:
        cost = price(view, contrast.arm)
        parts += told(view, contrast.arm)
        taken = _cheaper(contrast, cost)
        parts += [" Verdict: ", Strong(f"take {view.name(taken)}"), ", the cheaper one."] if taken else []
    return said(*parts)


def _cheaper(contrast: Contrast, cost: Price) -> str | None:
    """Which of two that are equal is cheaper in something and dearer in nothing."""
    if cost.cheaper == cost.dearer:
        return None
    return contrast.arm if cost.cheaper else contrast.against


def _open(view: View, comparison: Comparison, contrast: Contrast) -> Sentence:
    decimals = supported(contrast, comparison.delta)
    parts = [
        view.name(contrast.arm),
        " less ",
        view.name(contrast.against),
        f": {signed(contrast.difference, decimals)} {comparison.metric.unit}",
    ]
    if contrast.verdict == "no verdict":
        return said(*parts, ", from one seed: ", Strong("no verdict"), ".")
    parts += [f" (95 % interval {span(contrast.low, contrast.high, decimals)}; {evidence(comparison, contrast)}): "]
    parts += [Strong("not resolved"), f". {bound(comparison, contrast)}"]
    if noise := comparison.noise:
        parts += [f" The smallest effect that {len(contrast.seeds)} seeds can see here is {noise.smallest:.2g}."]
    if contrast.more_seeds is None:
        return said(*parts, " No sensible number of seeds would resolve it.")
    again = command(view.asked, contrast.more_seeds)
    minutes = f" ({units.format_minutes(contrast.more_minutes)})" if contrast.more_minutes else ""
    more = plural(contrast.more_seeds, "more seed")
    return said(*parts, f" About {more}{minutes} would resolve it{':' if again else '.'}", command=again)


def bound(comparison: Comparison, contrast: Contrast) -> str:
    """How large a difference may still be, by two one-sided tests at 5 %."""
    beyond = max(abs(contrast.low90), abs(contrast.high90))
    decimals = supported(contrast, comparison.delta)
    up = math.ceil(round(beyond * 10**decimals, 6)) / 10**decimals
    return f"No difference beyond {fixed(up, decimals)}."


# -- learning rates


def tuned(view: View, tuning: Tuning) -> Sentence:
    """Where an arm's best learning rate lies, and how much depends on it."""
    name = view.name(tuning.arm)
    if tuning.best is None:
        return said(name, " diverged at every learning rate of the grid.")
    parts = [name, f" is best at {tuning.best:g}"]
    if tuning.sensitivity is not None:
        parts += [f" (over the grid it loses {tuning.sensitivity:.2g} on average)"]
    if tuning.edge:
        parts += [", which is at the edge of the grid: its loss is an ", Strong("upper bound")]
    return said(*parts, ".")


# -- fresh seeds, failures


def confirmed(view: View, fresh: Comparison) -> list[Sentence]:
    """The winner and the baseline on seeds that chose nothing."""
    return [verdict(view, fresh, one) for one in fresh.contrasts]


def unfinished(findings: Findings) -> list[Sentence]:
    """What failed, diverged or was never made: why, and where to read on. Seeds of one fate are told together."""
    fates: dict[tuple[str, ...], list[Run]] = {}
    for run in findings.runs:
        if run.status != "finished":
            fates.setdefault((_label(run), run.status, run.reason), []).append(run)
    sentences = []
    for (label, status, reason), runs in fates.items():
        which = sorted({run.seed for run in runs})
        many = f"seed{'s' if len(which) > 1 else ''} {', '.join(map(str, which))}"
        why = f" ({reason})" if reason else ""
        log = next((f"; see {run.log}" for run in runs if run.log), "")
        sentences.append(said(Strong(label), f": {status}, {many}{why}{log}"))
    return sentences


def _label(run: Run) -> str:
    """A run by its size, arm, learning rate and role, the seed aside."""
    role = {"arm": "", "twin": "again", "budget": f"{run.budget:g}x", "confirm": "on fresh seeds"}[run.role]
    return " ".join(filter(None, [run.size, run.arm, "" if run.lr is None else f"lr={run.lr:g}", role]))
