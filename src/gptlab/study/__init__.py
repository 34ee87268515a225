"""What is measured on the arms of a study."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from gptlab.config.recipe import Recipe
from gptlab.stats.measurements import Row

if TYPE_CHECKING:
    from gptlab.model.decoder import Decoder

Build = Callable[[Recipe, int], "Decoder"]
"""A recipe and how many tokens there are, to its decoder under the recipe's seed."""


class Search(NamedTuple):
    """One row of trials: the sampler that suggests them, which repeat it is, words that all of them have, and what arms
    of these words are called besides."""

    name: str
    sampler: str
    repeat: int = 0
    words: tuple[str, ...] = ()
    label: str = ""


class Study:
    """The slot's contract: __init__(*, knobs). `together` says that all arms are measured in one process, a cell a
    block, so that clocks can be compared; else each arm and seed is a run of its own, and the study is not called."""

    together: ClassVar[bool] = True
    follow_up: str | None = None
    """Another study that is then asked the same, or none."""
    design: ClassVar[str | None] = None
    """The only design that it has, or none."""

    def arms(self, base: Recipe) -> dict[str, list[str]]:
        """Arms of its own, by name, as words of a command line; none leaves them to the axes. The first is `base`."""
        return {}

    def versus(self) -> list[tuple[str, str]]:
        """Which of them are compared with each other, besides all with the baseline."""
        return []

    def searches(self, sampler: str, base: Recipe) -> list[Search]:
        """What is searched by design=search, each over as many trials; `sampler` is the one asked for."""
        return [Search(sampler, sampler)]

    def check(self, arms: dict[str, Recipe]) -> None:
        """Refuses arms that cannot be measured, before anything is."""

    def __call__(self, arms: dict[str, Recipe], block: int, build: Build, folder: Path) -> list[Row]:
        """Measures all arms, by name, under one seed. `folder` is the study's, for plots and the like. The first arm of
        the rows is the baseline, unless the study was asked for another."""
        raise NotImplementedError


def vocabulary(recipe: Recipe, asked: int | None) -> int:
    """How many tokens there are: as asked, else as in the recipe's text."""
    if asked is not None:
        return asked
    from gptlab.corpus.load import read_corpus

    return read_corpus(recipe).tokenizer.vocab


def following(base: Recipe, change: str) -> str:
    """The word for a change after those that a recipe has."""
    before = [one for one in (base.choices.get("change") or "").split("+") if one]
    return f"change=[{','.join([*before, change])}]"
