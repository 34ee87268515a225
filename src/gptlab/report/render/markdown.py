"""A report as Markdown. All text of users is escaped; a figure is drawn in characters where it has that form."""

import re
from collections.abc import Iterable

from gptlab.report.model import Code, Figure, Item, Report, Table, Words
from gptlab.report.text.columns import Column
from gptlab.report.text.markup import Sentence, Strong


def render_markdown(report: Report) -> str:
    """Return the page."""
    parts = [f"# {escape_markdown(report.title)}", escape_markdown(report.line)]
    for size, answer in report.answers.items():
        parts += [f"## Answer{f', {escape_markdown(size)}' if size else ''}", render_item(answer)]
    for section in report.sections:
        items = [text for text in map(render_item, section.items) if text]
        parts += [f"## {escape_markdown(section.heading)}", *items] if items else []
    return "\n\n".join(filter(None, parts)) + "\n"


def render_item(item: Item) -> str:
    """Return one item of a section; empty for what Markdown cannot show."""
    if isinstance(item, Words):
        return _render_list(item)
    if isinstance(item, Table):
        return _render_table(item)
    if isinstance(item, Code):
        return f"{escape_markdown(item.caption)}\n\n{_indent(item.lines)}"
    return _indent(item.text) if isinstance(item, Figure) and item.text else ""


def escape_markdown(text: str) -> str:
    """Return text that means nothing to Markdown, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&$])", r"\\\1", " ".join(text.split()))


# -- sentences


def _render_list(words: Words) -> str:
    lines = []
    for number, sentence in enumerate(words.lines, 1):
        marker = f"{number}." if words.numbered else "-"
        lines.append(f"{marker} {_render_sentence(sentence, depth=3 if words.numbered else 2)}")
    return "\n".join(lines)


def _render_sentence(sentence: Sentence | str, depth: int) -> str:
    """Return a sentence of a list, whose text is indented by `depth`; its command is a block of the same item."""
    if isinstance(sentence, str):
        return escape_markdown(sentence)
    text = ""
    for part in sentence.parts:
        text += f"**{escape_markdown(part)}**" if isinstance(part, Strong) else _escape_part(part)
    return text + (f"\n\n{_indent(sentence.command, ' ' * (depth + 4))}" if sentence.command else "")


def _escape_part(part: str) -> str:
    """Return a part of a sentence, escaped, with its outer blanks."""
    inner = part.strip()  # escape_markdown joins words by one blank, and would drop the outer ones
    before, _, after = part.partition(inner) if inner else (part, "", "")
    return f"{before}{escape_markdown(inner)}{after}"


# -- tables and blocks


def _render_table(table: Table) -> str:
    if not any(column.head for column in table.columns):  # a list of facts
        rows = zip(*(column.cells for column in table.columns), strict=True)
        return "\n".join(f"- {escape_markdown(name)}: {escape_markdown(value)}" for name, value in rows)
    parts = [f"{escape_markdown(table.caption)}:", _render_grid(table.columns), escape_markdown(table.foot)]
    return "\n\n".join(filter(None, parts))


def _render_grid(columns: Iterable[Column]) -> str:
    heads, rules, cells = [], [], []
    for column in columns:
        heads.append(escape_markdown(column.head))
        rules.append(":--" if column.left else "--:")
        cells.append([*map(escape_markdown, column.cells)])
    rows = zip(*cells, strict=True)
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, rules, *rows))


def _indent(text: str, indent: str = "    ") -> str:
    """Return lines as they are, as an indented block."""
    return "\n".join(f"{indent}{line}".rstrip() for line in text.splitlines())
