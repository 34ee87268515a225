"""A report before it is rendered: sections of words, tables, figures and texts. One model, several renderers.

`study.py` builds it of a study, `run.py` of a run, `measurement.py` of a study that trains nothing, from run folders
alone. `render/html.py` draws it as a page, `render/markdown.py` as Markdown, `render/wandb_report.py` as a W&B Report.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from gptlab.report.text.columns import Column
from gptlab.report.text.markup import Sentence

DIGITS = 6
"""Significant digits of a number in a figure."""


@dataclass(frozen=True)
class Words:
    """A list of sentences."""

    kind: ClassVar[str] = "words"
    lines: Sequence[Sentence | str]
    numbered: bool = False

    def __bool__(self) -> bool:
        return bool(self.lines)


@dataclass(frozen=True)
class Table:
    """Columns of plain text under a caption, and a line below."""

    kind: ClassVar[str] = "table"
    caption: str
    columns: Sequence[Column]
    foot: str = ""

    def __bool__(self) -> bool:
        # heads above no row are no table; Sections.add leaves out what is false
        return bool(self.columns) and bool(self.columns[0].cells)


@dataclass(frozen=True)
class Figure:
    """A figure of plotly, with the same in words and in numbers.

    data, layout  as plotly.js takes them
    alt           a sentence for those who cannot see it
    heads, rows   its numbers as a table
    text          the figure in characters, where there is such a form
    """

    # templates choose how to draw an item by it
    kind: ClassVar[str] = "figure"
    title: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    alt: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Any]] = ()
    note: str = ""
    text: str = ""

    @property
    def csv(self) -> str:
        """The numbers as CSV, under a line of heads."""
        file = io.StringIO()
        # rounded as drawn: floats in full made a page twice as large (docs/log.md, 2026-11-23)
        csv.writer(file, lineterminator="\n").writerows([self.heads, *round_floats(self.rows)])
        return file.getvalue()


@dataclass(frozen=True)
class Texts:
    """Texts that models wrote, side by side, by the model's name."""

    kind: ClassVar[str] = "texts"
    by_name: Mapping[str, Sequence[str]]

    def __bool__(self) -> bool:
        return bool(self.by_name)


@dataclass(frozen=True)
class Code:
    """Lines to copy, under a caption."""

    kind: ClassVar[str] = "code"
    caption: str
    lines: str

    def __bool__(self) -> bool:
        return bool(self.lines)


Item = Words | Table | Figure | Texts | Code


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it. `key` is the same in every report."""

    key: str
    heading: str
    items: Sequence[Item]


@dataclass(frozen=True)
class Report:
    """A title, a line of numbers below it, the answers by size ("" where there is one), and the sections.

    question  a study's question as a title, where the title is the name of a folder
    """

    title: str
    line: str
    answers: Mapping[str, Words]
    sections: Sequence[Section]
    command: str = ""
    question: str = ""

    @property
    def has_figures(self) -> bool:
        """Whether some section holds a figure."""
        return any(isinstance(item, Figure) for section in self.sections for item in section.items)


@dataclass
class Sections:
    """A list of sections that leaves out those without content."""

    sections: list[Section] = field(default_factory=list)

    def add(self, key: str, heading: str, *items: Item | None) -> None:
        """Append a section of the items that are not empty."""
        # a heading above nothing would look like a fault
        if present := [item for item in items if item]:
            self.sections.append(Section(key, heading, present))


def round_floats(value: Any) -> Any:
    """Return plain data whose floats have as many digits as a figure can show."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: round_floats(item) for key, item in value.items()}
    # tuples become lists, as they do in JSON
    return [round_floats(item) for item in value] if isinstance(value, list | tuple) else value
