"""A report as Markdown. All text of users is escaped; a figure is told in characters where it has that form."""

import re
from collections.abc import Iterable

from gptlab.report.model import Code, Figure, Item, Report, Table, Words
from gptlab.report.text.columns import Column
from gptlab.report.text.view import Sentence, Strong


def text(report: Report) -> str:
    """The page."""
    parts = [f"# {plain(report.title)}", plain(report.line)]
    for size, answer in report.answers.items():
        parts += [f"## Answer{f', {plain(size)}' if size else ''}", item(answer)]
    for section in report.sections:
        told = [found for one in section.items if (found := item(one))]
        parts += [f"## {plain(section.heading)}", *told] if told else []
    return "\n\n".join(filter(None, parts)) + "\n"


def item(one: Item) -> str:
    """One part of a section; empty for what Markdown cannot show."""
    if isinstance(one, Words):
        return _numbered(one.lines) if one.numbered else _listed(one.lines)
    if isinstance(one, Table):
        return _titled(one)
    if isinstance(one, Code):
        return f"{plain(one.says)}\n\n{_block(one.lines)}"
    return _block(one.text) if isinstance(one, Figure) and one.text else ""


def plain(text: str) -> str:
    """Text that means nothing to Markdown, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&$])", r"\\\1", " ".join(text.split()))


def _titled(one: Table) -> str:
    if not any(column.head for column in one.columns):
        rows = zip(*(column.cells for column in one.columns), strict=True)
        return "\n".join(f"- {plain(name)}: {plain(value)}" for name, value in rows)
    return "\n\n".join(filter(None, [f"{plain(one.caption)}:", _table(one.columns), plain(one.foot)]))


def _sentence(sentence: Sentence | str, deep: int) -> str:
    """A sentence of a list; its command is a block of the same item, whose text stands so deep."""
    if isinstance(sentence, str):
        return plain(sentence)
    marked = (f"**{plain(part)}**" if isinstance(part, Strong) else _kept(part) for part in sentence.parts)
    return "".join(marked) + (f"\n\n{_block(sentence.command, ' ' * (deep + 4))}" if sentence.command else "")


def _kept(part: str) -> str:
    """A part of a sentence with its outer blanks."""
    inner = part.strip()
    before, _, after = part.partition(inner) if inner else (part, "", "")
    return f"{before}{plain(inner)}{after}"


def _listed(sentences: Iterable[Sentence | str]) -> str:
    return "\n".join(f"- {_sentence(one, 2)}" for one in sentences)


def _numbered(sentences: Iterable[Sentence | str]) -> str:
    return "\n".join(f"{number}. {_sentence(one, 3)}" for number, one in enumerate(sentences, 1))


def _block(text: str, indent: str = "    ") -> str:
    """Lines as they are."""
    return "\n".join(f"{indent}{line}".rstrip() for line in text.splitlines())


def _table(columns: Iterable[Column]) -> str:
    columns = [*columns]
    heads = [plain(one.head) for one in columns]
    rules = [":--" if one.left else "--:" for one in columns]
    rows = [[plain(cell) for cell in row] for row in zip(*(one.cells for one in columns), strict=True)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, rules, *rows))
