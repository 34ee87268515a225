"""What a report is, before it is drawn: sections of words, tables, figures and texts. One model, several renderers.

`study.py` makes one of a study, `single.py` of a run, from run folders alone; `page.py` draws it as HTML, `markdown.py`
as Markdown, `workspace.py` as a W&B Report.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from gptlab.report.text.columns import Column
from gptlab.report.text.view import Sentence

DIGITS = 6
"""Of a number in a figure."""


@dataclass(frozen=True)
class Words:
    """Sentences, as a list."""

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
        return bool(self.columns) and bool(self.columns[0].cells)


@dataclass(frozen=True)
class Figure:
    """A title, plotly's data and layout, a sentence for those who cannot see it, its numbers as rows under heads, and a
    note. `text`: the same in characters, where there is such a form."""

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
        """The numbers."""
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([self.heads, *shortened(self.rows)])
        return out.getvalue()


@dataclass(frozen=True)
class Texts:
    """What models wrote, side by side."""

    kind: ClassVar[str] = "texts"
    by: Mapping[str, Sequence[str]]

    def __bool__(self) -> bool:
        return bool(self.by)


@dataclass(frozen=True)
class Code:
    """Lines to copy, under a sentence."""

    kind: ClassVar[str] = "code"
    says: str
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
    """`answers`: by size, where there are several. `line`: what it is of, in numbers."""

    title: str
    line: str
    answers: Mapping[str, Words]
    sections: Sequence[Section]
    command: str = ""

    @property
    def drawn(self) -> bool:
        """True where there is a figure."""
        return any(isinstance(item, Figure) for section in self.sections for item in section.items)


@dataclass
class Sections:
    """Collects sections; those that would be empty are left out."""

    found: list[Section] = field(default_factory=list)

    def add(self, key: str, heading: str, *items: Item | None) -> None:
        """One more, of the items that are there."""
        if kept := [item for item in items if item]:
            self.found.append(Section(key, heading, kept))


def shortened(value: Any) -> Any:
    """Plain data whose floats have as many digits as a figure can show."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: shortened(one) for key, one in value.items()}
    return [shortened(one) for one in value] if isinstance(value, list | tuple) else value
