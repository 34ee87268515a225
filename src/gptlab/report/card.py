"""The card of a study: its report on one page of Markdown, for a pull request or an issue.

The answer, the table that decides and its intervals, the rule, what may be wrong, what it took, how to do it again.
"""

from dataclasses import replace

from gptlab.report.model import Figure, Item, Report, Section, Table
from gptlab.report.render.markdown import render_markdown

WHOLE = ("question", "setup", "threats", "cost")
"""Sections that are there as in the report."""
MAX_FACTS = ("sizes", "batch", "steps", "tokens seen", "device", "data", "tokenizer", "code")
"""Facts of the setup that a page has room for."""


def render_card(report: Report) -> str:
    """Return the card of a study's report as Markdown."""
    # section keys are the same in every report, headings are not
    sections = [card for section in report.sections if (card := _shorten_section(section)) is not None]
    lines = f"    {report.command}" if report.command else ""
    page = render_markdown(replace(report, sections=sections))
    return page + (f"\n## To do it again\n\n{lines}\n" if lines else "")


def _shorten_section(section: Section) -> Section | None:
    """Return the part of a section that is on the card; None for none."""
    if section.key == "results":
        first = [item for item in section.items if isinstance(item, Table)][:1]
        # of the figures only the forest plot has a form in characters, which a card can show
        forest = [item for item in section.items if isinstance(item, Figure) and item.text][:1]
        return replace(section, items=[*first, *forest])
    if section.key not in WHOLE:
        return None
    if section.key == "setup":
        return replace(section, items=[_select_facts(item) for item in section.items])
    return section


def _select_facts(item: Item) -> Item:
    """Return a table of facts with those that a card has."""
    if not isinstance(item, Table) or len(item.columns) != 2:
        return item
    names, values = item.columns
    facts = {name: value for name, value in zip(names.cells, values.cells, strict=True) if name in MAX_FACTS}
    columns = [replace(names, cells=[*facts]), replace(values, cells=[*facts.values()])]
    return replace(item, columns=columns)
