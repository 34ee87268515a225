"""Words for where a study stands in its plan of looks."""

from gptlab.stats.results import Contrast
from gptlab.stats.spending import ALPHA, Look, LookPlan, Spending

SPENDING_NAMES = {"pocock": "Pocock-like", "obrien_fleming": "O'Brien-Fleming-like"}
SPENDING_NAMES |= {"hwang_shih_decani": "Hwang-Shih-DeCani"}


def describe_look(look: Look) -> str:
    """Return "look 2 of 3, alpha .036 of .05 spent", or how a look lies beside the planned ones."""
    count, last = len(look.planned), look.planned[-1]
    # more seeds than the last look: its alpha is spent, so that nothing is promised any more
    if look.place == "after":
        return f"after look {count} of {count}, with more than the {last} planned seeds: exploratory"
    position = {
        "planned": f"look {look.number} of {count}",
        "before": f"before look 1 of {count}",
        "between": f"between looks {look.number} and {look.number + 1} of {count}",
    }[look.place]
    spent = f"{position}, alpha {format_alpha(look.spent)} of {format_alpha(look.alpha)} spent"
    # one degree of freedom an arm: such intervals are tens of times their difference
    few = look.place == "before" and look.seeds == 2
    return f"{spent}; two seeds say almost nothing, the first look is at {look.planned[0]}" if few else spent


def describe_plan_position(looks: list[int], spending: Spending, seeds: int, alpha: float = ALPHA) -> str:
    """Return which look so many seeds will be."""
    if seeds < 2:
        return "one seed is none"
    # of one comparison: Holm's share comes when it is judged
    return describe_look(LookPlan(tuple(looks), spending).describe(seeds, 1, alpha))


def describe_plan(looks: list[int], spending: Spending, alpha: float = ALPHA) -> str:
    """Return the plan of looks as a sentence."""
    if len(looks) == 1:
        return f"One look, at {looks[0]} seeds, with all of alpha {format_alpha(alpha)}."
    seeds = f"{', '.join(map(str, looks[:-1]))} and {looks[-1]}"
    spent = f"alpha {format_alpha(alpha)} is spent over them ({SPENDING_NAMES[spending]}, Lan-DeMets)"
    return f"Looks at {seeds} seeds; {spent}."


def describe_resolution(contrast: Contrast, looks: list[int]) -> str:
    """Return a sentence on how likely a planned look is to resolve a contrast."""
    if contrast.next_look is None:
        return "The plan of looks is at its end and cannot resolve it; more seeds would be exploratory."
    if contrast.more_seeds is None:
        last = f"its last look, at {looks[-1]} seeds, would in {format_chance(contrast.chance_at_last)} of cases"
        return f"The plan of looks cannot resolve it: {last}."
    chances = f"{format_chance(contrast.chance)} of cases"
    if contrast.next_look != looks[-1]:
        chances += f", and the last one, at {looks[-1]}, in {format_chance(contrast.chance_at_last)}"
    return f"The next look, at {contrast.next_look} seeds, resolves it in {chances}"


def format_alpha(alpha: float) -> str:
    """Return two digits of an alpha without the leading zero: .025."""
    return f"{alpha:.2g}".removeprefix("0")


def format_chance(chance: float | None) -> str:
    """Return a probability in whole percent."""
    return f"{100 * (chance or 0):.0f} %"
