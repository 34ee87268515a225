"""A study in five lines: verdict, size, certainty, cost, and what would change it."""

from gptlab.report.text.costs import joined, net, told
from gptlab.report.text.numbers import fixed, interval, places, signed, span, supported
from gptlab.report.text.sentences import evidence
from gptlab.report.text.view import Sentence, View, command, plural, said
from gptlab.stats.results import Contrast

ORDER = ("better", "equivalent", "not resolved", "worse", "unstable", "failed", "no verdict")


def headline(view: View) -> Sentence:
    """Which arms are what, against the baseline."""
    base = view.comparison.baseline
    parts: list[str] = ["Against ", view.name(base), ": "]
    for verdict in ORDER:
        arms = [arm for arm in view.order if arm != base and view.verdict(arm) == verdict]
        for number, arm in enumerate(arms):
            parts += [", " if number else "; " if len(parts) > 3 else "", view.name(arm)]
        parts += [f" {verdict}"] if arms else []
    return said(*parts, "." if len(parts) > 3 else "nothing to compare.")


def leaders(view: View) -> list[Contrast]:
    """The best of the arms that are better than the baseline, and those that are not shown to be behind it: ties."""
    good = [view.contrasts[arm] for arm in view.order if view.verdict(arm) == "better"]
    return [one for one in good if one is good[0] or not _behind(view, one, good[0])]


def _behind(view: View, one: Contrast, best: Contrast) -> bool:
    """By the pair itself where pairs were compared, else by intervals that do not meet."""
    for pair in view.comparison.pairs:
        if {pair.arm, pair.against} == {one.arm, best.arm}:
            return pair.verdict in ("better", "worse")
    return one.low > best.high or one.high < best.low


def answer(view: View) -> list[Sentence]:
    """The five lines."""
    first = leaders(view)
    nearest = first or [one for arm in view.order if (one := view.contrasts.get(arm)) and one.verdict != "unstable"][:1]
    return [headline(view), _size(view, first, nearest), _certainty(view, nearest), _cost(view, nearest), _change(view)]


def _size(view: View, first: list[Contrast], nearest: list[Contrast]) -> Sentence:
    if not nearest:
        return said("Size: no arm shares a finished seed with the baseline.")
    parts: list[str] = ["Size: "]
    for number, one in enumerate(nearest):
        decimals = supported(one, view.comparison.delta)
        ends = f" (95 % interval {span(*both, decimals)})" if (both := interval(one)) else ""
        difference = signed(one.difference, decimals)
        parts += [", " if number else "", view.name(one.arm), f" {difference} {view.comparison.metric.unit}{ends}"]
    tie = "; which of these is ahead is not shown." if len(first) > 1 else "."
    return said(*parts, tie if first else "; no arm is shown to be better.")


def _certainty(view: View, nearest: list[Contrast]) -> Sentence:
    if not nearest or interval(nearest[0]) is None:
        return said("Certainty: none; a verdict needs two seeds or more.")
    noise, fresh = view.comparison.noise, view.stratum.confirmed
    seen = f"; differences of {noise.smallest:.2g} would have been seen" if noise else ""
    again = [f"{one.verdict} on {plural(len(one.seeds), 'fresh seed')}" for one in fresh.contrasts] if fresh else []
    return said(f"Certainty: {evidence(view.comparison, nearest[0])}{seen}{'; ' if again else ''}{', '.join(again)}.")


def _cost(view: View, nearest: list[Contrast]) -> Sentence:
    parts = [part for one in nearest for part in (*told(view, one.arm), *net(view, one.arm))]
    return said("Cost:", *(parts or [" no difference was measured."]))


def _change(view: View) -> Sentence:
    left = [one for one in view.contrasts.values() if one.verdict == "not resolved" and one.more_seeds]
    more = max((one.more_seeds or 0 for one in left), default=0)
    parts = [f"{plural(more, 'more seed')} for {joined([view.names[one.arm] for one in left])}"] if left else []
    parts += ["learning rates tuned for each arm (tune=grid)"] if view.asked.get("tune") == "shared" else []
    parts += ["another size, or more tokens"]
    margin = fixed(view.comparison.delta, places(view.comparison.delta))
    parts += [f"a margin of equivalence other than {margin}"] if "equivalent" in map(view.verdict, view.order) else []
    return said(f"What would change it: {', '.join(parts)}.", command=command(view.asked, more) if more else "")
