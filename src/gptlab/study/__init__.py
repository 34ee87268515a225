"""Studies: what is measured on the arms of an ablation. `Study` is the contract of the slot."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from gptlab.config.recipe import Recipe
from gptlab.stats.measurements import Row

if TYPE_CHECKING:
    from gptlab.model.decoder import Decoder

Build = Callable[[Recipe, int], "Decoder"]
"""Builds the decoder of a recipe for a vocabulary size, with weights drawn by the recipe's init and seed."""


class Search(NamedTuple):
    """One series of trials of design=search. Its fields are keys of search.json.

    name     how the search is called in the report
    sampler  suggests the trials: grid, random or tpe
    repeat   number of the repeat, from 0
    words    overrides of the command line that all of its trials have
    label    added to the names of its arms, "" for none
    """

    name: str
    sampler: str
    repeat: int = 0
    words: tuple[str, ...] = ()
    label: str = ""


class Study:
    """Contract of the slot `study`: __init__(*, knobs).

    together   True if all arms are measured in one process, a cell a block, so that clocks can be compared; else each
               arm and seed is a run of its own, and the study is not called
    shares_training  True if the arms are one training that is changed: each differs from it by a noise of its own, a
                     hundred times smaller in one than in another, and no arm's variance says anything of another's
    follow_up  another study of the same arms that is run next, or None
    design     the only design that the study has, or None
    """

    together: ClassVar[bool] = True
    shares_training: ClassVar[bool] = False
    follow_up: str | None = None
    design: ClassVar[str | None] = None

    def arms(self, base: Recipe) -> dict[str, list[str]]:
        """Return the study's own arms by name, as words of a command line; none leaves them to the axes.

        The first arm is `base`.
        """
        return {}

    def versus(self) -> list[tuple[str, str]]:
        """Return the pairs of arms that are compared with each other, besides all with the baseline."""
        return []

    def searches(self, sampler: str, base: Recipe) -> list[Search]:
        """Return the searches of design=search, each with as many trials.

        `sampler` is the one of the command line.
        """
        return [Search(sampler, sampler)]

    def check(self, arms: dict[str, Recipe]) -> None:
        """Refuse arms that cannot be measured, before anything is."""

    def __call__(self, arms: dict[str, Recipe], block: int, build: Build, folder: Path) -> list[Row]:
        """Measure all arms, by name, under one seed.

        `folder` is the study's, for plots and the like. The first arm of the rows is the baseline.
        """
        raise NotImplementedError


def get_vocab_size(recipe: Recipe, override: int | None) -> int:
    """Return the number of tokens: `override`, or where it is None that of the recipe's text."""
    if override is not None:
        return override
    from gptlab.corpus.load import read_corpus

    # reads the text and may train a tokenizer: vocab= spares that
    return read_corpus(recipe).tokenizer.vocab


def append_change(base: Recipe, change: str) -> str:
    """Return the override that appends a change to those of a recipe."""
    earlier = [name for name in (base.choices.get("change") or "").split("+") if name]
    # appended: changes act in order, and a study's own comes after those of the recipe
    return f"change=[{','.join([*earlier, change])}]"
