"""A study in five lines: verdict, difference, certainty, cost, and what would change it."""

from gptlab.report.text.costs import describe_compute_value, describe_costs, join_phrases
from gptlab.report.text.looks import format_chance
from gptlab.report.text.markup import Sentence, escape, parse_sentence
from gptlab.report.text.numbers import (
    choose_decimals,
    count_decimals,
    format_fixed,
    format_range,
    format_signed,
    get_interval,
)
from gptlab.report.text.sentences import describe_evidence
from gptlab.report.text.view import View, build_command, pluralize
from gptlab.stats.results import Contrast

ORDER = ("better", "equivalent", "not resolved", "worse", "unstable", "failed", "no verdict")


def summarize_view(view: View) -> list[Sentence]:
    """Return the five lines."""
    leaders = find_leaders(view)
    nearest = leaders
    if not leaders:  # the one with the best difference, if any can be compared
        contrasts = [view.contrasts[arm] for arm in view.order if arm in view.contrasts]
        nearest = [contrast for contrast in contrasts if contrast.verdict != "unstable"][:1]
    return [
        summarize_verdicts(view),
        _describe_difference(view, leaders, nearest),
        _describe_certainty(view, nearest),
        _describe_cost(view, nearest),
        _describe_next_steps(view),
    ]


def summarize_verdicts(view: View) -> Sentence:
    """Return the arms grouped by verdict, in one sentence."""
    baseline = view.comparison.baseline
    groups = []
    for verdict in ORDER:
        arms = [arm for arm in view.order if arm != baseline and view.get_verdict(arm) == verdict]
        if arms:
            groups.append(f"{', '.join(map(view.bold_name, arms))} {verdict}")
    look = view.comparison.look
    mark = " **Exploratory**: more seeds than planned." if look and look.place == "after" else ""
    return parse_sentence(
        f"Against {view.bold_name(baseline)}: {'; '.join(groups)}{'.' if groups else 'nothing to compare.'}{mark}"
    )


def find_leaders(view: View) -> list[Contrast]:
    """Return the best of the arms that are better than the baseline, and those not shown to be behind it: ties."""
    better = [view.contrasts[arm] for arm in view.order if view.get_verdict(arm) == "better"]
    return [contrast for contrast in better if contrast is better[0] or not _is_behind(view, contrast, better[0])]


def _is_behind(view: View, contrast: Contrast, best: Contrast) -> bool:
    """Decide by the pair itself where pairs were compared, else by intervals that do not meet."""
    for pair in view.comparison.pairs:
        if {pair.arm, pair.against} == {contrast.arm, best.arm}:
            return pair.verdict in ("better", "worse")
    # stricter than a test of the difference: two that meet a little are called a tie
    return contrast.low > best.high or contrast.high < best.low


def _describe_difference(view: View, leaders: list[Contrast], nearest: list[Contrast]) -> Sentence:
    """Return the line on the difference: that of the leaders, or of the arm that comes nearest."""
    if not nearest:
        return parse_sentence("Difference: no arm shares a finished seed with the baseline.")
    differences = []
    for contrast in nearest:
        decimals, ends = choose_decimals(contrast, view.comparison.delta), get_interval(contrast)
        difference = f"{format_signed(contrast.difference, decimals)} {view.comparison.metric.unit}"
        interval = f" (95 % interval {format_range(*ends, decimals)})" if ends else ""
        differences.append(f"{view.bold_name(contrast.arm)} {difference}{interval}")
    end = "; which of these is ahead is not shown." if len(leaders) > 1 else "."
    return parse_sentence(
        f"Difference: {', '.join(differences)}{end if leaders else '; no arm is shown to be better.'}"
    )


def _describe_certainty(view: View, nearest: list[Contrast]) -> Sentence:
    """Return the line on how sure that is: seeds, p, power, and what fresh seeds say."""
    # several seeds and no verdict: only other texts or tokenizers do that
    if nearest and nearest[0].verdict == "no verdict" and len(nearest[0].seeds) > 1:
        return parse_sentence("Certainty: none; the arms are not judged by the same text and tokens.")
    if not nearest or get_interval(nearest[0]) is None:
        return parse_sentence("Certainty: none; a verdict needs two seeds or more.")
    noise, fresh = view.comparison.noise, view.stratum.confirmed
    power = f"; differences of {noise.smallest:.2g} would have been seen" if noise else ""
    contrasts = fresh.contrasts if fresh else []
    verdicts = [f"{contrast.verdict} on {pluralize(len(contrast.seeds), 'fresh seed')}" for contrast in contrasts]
    confirmation = f"; {', '.join(verdicts)}" if verdicts else ""
    return parse_sentence(f"Certainty: {describe_evidence(view.comparison, nearest[0])}{power}{confirmation}.")


def _describe_cost(view: View, nearest: list[Contrast]) -> Sentence:
    costs = [describe_costs(view, contrast.arm) + describe_compute_value(view, contrast.arm) for contrast in nearest]
    return parse_sentence(f"Cost:{''.join(costs) or ' no difference was measured.'}")


def _describe_chances(view: View, unresolved: list[Contrast]) -> str:
    """Return how likely the next look and the last are to resolve the likeliest arm; empty without planned looks."""
    if any(contrast.chance is None for contrast in unresolved):
        return ""
    # a look that hardly ever decides must not read as the way out
    chance = format_chance(max(contrast.chance or 0.0 for contrast in unresolved))
    chance = f"at most {chance}" if len(unresolved) > 1 else chance
    if all(contrast.next_look == view.plan.looks[-1] for contrast in unresolved):
        return f" (which decides in {chance} of cases)"
    at_last = format_chance(max(contrast.chance_at_last or 0.0 for contrast in unresolved))
    return f" (which decides in {chance} of cases; the last look, at {view.plan.looks[-1]} seeds, in {at_last})"


def _describe_next_steps(view: View) -> Sentence:
    """Return the line on what would change the answer, with the command for more seeds."""
    unresolved = [
        contrast for contrast in view.contrasts.values() if contrast.verdict == "not resolved" and contrast.more_seeds
    ]
    # one command for all of them: the arm that wants most seeds decides
    extra_seeds = max((contrast.more_seeds or 0 for contrast in unresolved), default=0)
    steps = []
    if unresolved:
        names = join_phrases([view.short_name(contrast.arm) for contrast in unresolved])
        steps.append(f"{pluralize(extra_seeds, 'more seed')} for {escape(names)}{_describe_chances(view, unresolved)}")
    if view.plan.tune == "shared":
        steps.append("learning rates tuned for each arm (tune=grid)")
    steps.append("another size, or more tokens")
    if "equivalent" in map(view.get_verdict, view.order):
        margin = format_fixed(view.comparison.delta, count_decimals(view.comparison.delta))
        steps.append(f"a margin of equivalence other than {margin}")
    command = build_command(view.plan, extra_seeds) if extra_seeds else ""
    return parse_sentence(f"What would change it: {', '.join(steps)}.", command)
