"""Arms by several grids, and arms that are left out.

grids=["attention=gqa,swa","norm=rmsnorm,layernorm mlp=gelu,swiglu"]    a grid each, about one baseline, in one study
exclude=["attention=swa position=alibi"]                                 arms that have all of these words, or that name
arms=FILE.yaml +arms.gated=[attention.gate=true]                         arms by name, of a file and of the command line
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import product
from typing import Any

from gptlab.ablation import design
from gptlab.ablation.options import StudyOptions
from gptlab.config.hydra_messages import list_study_keys
from gptlab.errors import Refused
from gptlab.stats.labels import label_arm, label_value, write_plainly

OPENING, CLOSING = "[{(", "]})"
OF_THE_STUDY = ("seed", "name", "outputs", "tracking", "study", "hydra", "keep", "save_minutes")
"""Keys of a run that a study has once."""
OF_A_RUN = ("resume", "like", "cell", "content", "trunk", "branches")
"""Keys of a lone run, or that are reckoned."""


def choose_named_arms(
    options: StudyOptions,
    arms_of_study: dict[str, list[str]],
    axes: Iterable[str],
    read_defaults: Callable[[list[str]], dict[str, str]],
) -> tuple[dict[str, list[str]], StudyOptions]:
    """Return the arms by name that stand in place of axes, and the options with these.

    read_defaults  returns the value of each axis where the command line says nothing of it
    """
    # how the command line says it, for the refusals
    source = ""
    if options.arms:
        source = f"arms={options.arms}" if isinstance(options.arms, str) else "arms"
    elif options.grids:
        source = "grids"
    if source and (arms_of_study or options.design != "grid"):
        raise Refused(f"{source} does not go with a study or a design that has arms of its own")
    if options.arms and options.grids:
        raise Refused("grids= and arms= both say what is compared; leave one of them out")
    own_arms = arms_of_study
    if isinstance(options.arms, str):
        own_arms = design.read_named_overrides(options.arms)
    elif options.arms:
        own_arms = options.arms
    elif options.grids:
        own_arms = read_grids(options.grids, read_defaults(list_grid_axes(options.grids)))
    if own_arms and axes:
        whose = {"": f"study={options.kind}", "grids": "grids", "arms": "a study of named arms"}.get(
            source, "arms=FILE"
        )
        raise Refused(f"{whose} has arms of its own; leave {', '.join(axes)} out, or give one value")
    if source:
        refuse_study_knobs(own_arms)
    if options.arms and len(own_arms) == 1 and any(own_arms.values()):  # one change asks what it is worth
        own_arms = {design.BASELINE[0][1]: [], **own_arms}
    return own_arms, replace(options, arms=own_arms) if source else options


def refuse_study_knobs(arms: dict[str, list[str]]) -> None:
    """Refuse an arm, or a task, that sets what all of a study share, that is several, or that says a key twice."""
    for name, words in arms.items():
        keys = [word.partition("=")[0].lstrip("+") for word in words]
        for key, word in zip(keys, words, strict=True):
            value = word.partition("=")[2]
            slot = key.partition(".")[0]
            if key in list_study_keys() or slot in OF_THE_STUDY:
                raise Refused(f"{name}: {word} is of the whole study; give it beside the arms")
            if keys.count(key) > 1:  # hydra would take the last
                raise Refused(f"{name}: {key} is given twice; give it once")
            if slot in OF_A_RUN:
                raise Refused(f"{name}: {word} is of one run and no part of an arm; leave it out")
            if value.startswith(("glob(", "range(", "choice(", "interval(")) or len(_split(value, ",")) > 1:
                raise Refused(f"{name}: {word} has several values; an arm has one, so name an arm for each")


def add_arms(arms: Any, typed: dict[str, list[str]]) -> Any:
    """Return the arms of a file or an experiment, if there are any, with those of the command line, which win."""
    if isinstance(arms, str):
        arms = design.read_named_overrides(arms)
    return {**(arms or {}), **typed}


def read_grids(grids: list[str], defaults: dict[str, str]) -> dict[str, list[str]]:
    """Return the arms of all grids by name, the baseline first: what each changes of the defaults."""
    # shared by all grids: a point that two of them have is one arm
    arms: dict[str, list[str]] = {design.BASELINE[0][1]: []}
    for grid in grids:
        axes = _read_axes(grid)
        for point in product(*axes.values()):
            # what is the default is no change, so that a grid's own corner is the baseline
            pairs = tuple((axis, value) for axis, value in zip(axes, point, strict=True) if defaults.get(axis) != value)
            if pairs:
                arms[label_arm(pairs)] = [label_value(*pair) for pair in pairs]
    if len(arms) < 2:
        raise Refused(f"grids={grids}: every value is the default, so nothing is compared; give other values")
    return arms


def list_grid_axes(grids: list[str]) -> list[str]:
    """Return the axes of all grids, each once."""
    return list(dict.fromkeys(axis for grid in grids for axis in _read_axes(grid)))


def _read_axes(grid: str) -> dict[str, list[str]]:
    """Return the axes of a grid, written as beside ablate.py: attention=gqa,swa norm=rmsnorm,layernorm."""
    axes = {}
    for word in _split(grid, " "):
        axis, separator, values = word.partition("=")
        # inside one quoted text hydra's sweep functions are not expanded
        if not separator or not axis or not values or values.startswith(("glob(", "range(", "interval(", "choice(")):
            raise Refused(f"grids: {word} lists no values; write them out, as in attention=gqa,swa")
        axes[axis] = _split(values, ",")
    if not axes:
        raise Refused("grids: a grid without axes; write each as beside ablate.py, as in 'attention=gqa,swa'")
    return axes


def _split(text: str, separator: str) -> list[str]:
    """Return the parts of a text between separators that stand outside of brackets."""
    parts, depth = [""], 0
    for letter in text:
        # betas=[0.9,0.95],[0.9,0.99] has two values, not four
        depth += (letter in OPENING) - (letter in CLOSING)
        if letter == separator and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part for part in parts if part]


class Exclusions:
    """Which arms exclude= leaves out; a word that fits none is refused, since it is a slip."""

    def __init__(self, exclude: list[str]) -> None:
        self.exclude = exclude
        self.used: set[str] = set()
        self.excluded: list[str] = []

    def has(self, name: str, words: list[str]) -> bool:
        """Return whether an arm is left out, by its name or by its overrides."""
        # by value too: exclude=swa
        known = {*map(write_plainly, words)} | {write_plainly(word.partition("=")[2]) for word in words}
        fitting = [text for text in self.exclude if text == name or {*map(write_plainly, text.split())} <= known]
        # all that fit, not the first alone: each has proved to be no slip
        self.used |= {*fitting}
        if fitting:
            self.excluded.append(name)
        return bool(fitting)

    def select(self, arms: dict[str, list[str]]) -> dict[str, list[str]]:
        """Return the arms that are not left out; refuse to leave out all."""
        remaining = {name: words for name, words in arms.items() if not self.has(name, words)}
        if arms and not remaining:
            raise self._make_refusal()
        return remaining

    def _make_refusal(self) -> Refused:
        return Refused(f"exclude=[{','.join(self.exclude)}] leaves no arm; leave out fewer")

    def describe(self, remaining: int) -> list[str]:
        """Return the line of the bill; refuse what fits no arm, and all arms. `remaining`: how many are left."""
        for text in self.exclude:
            if text in self.used:
                continue
            raise Refused(f"exclude={text}: no arm has it; write an arm's name, or some of its overrides")
        if not remaining:
            raise self._make_refusal()
        return [f"left out by exclude: {', '.join(self.excluded)}"] if self.excluded else []
