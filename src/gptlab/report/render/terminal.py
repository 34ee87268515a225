"""A study on the terminal: a table, its forest plot, the verdicts in words, the price, the doubts. From 60 columns on.

Colour repeats what words say and says nothing by itself.
"""

import re
from collections.abc import Iterable

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gptlab.report.text import caveats as fairness
from gptlab.report.text import columns as tables
from gptlab.report.text import sentences as words
from gptlab.report.text.columns import Column
from gptlab.report.text.forest_plot import legended, plotted
from gptlab.report.text.summary import headline
from gptlab.report.text.view import MARKS, Sentence, Strong, View, said, views
from gptlab.stats.results import Findings

COLOURS = {"better": "green", "worse": "red", "equivalent": "cyan", "not resolved": "yellow"}
COLOURS |= {"unstable": "magenta", "failed": "magenta"}
INDENT, GAP = 2, 2
NARROW, WIDE = 30, 48
"""Characters of a forest plot."""
LINE = 100
"""A sentence is no wider, so that the eye finds its next line."""
GLUE = "\ue000"
"""Stands for a blank while lines are broken, so that a number keeps its percent sign."""
SPARE = ("seeds", "worth\ncompute", "net of\nspeed", "p (Holm)", "p")
"""Columns that go where there is no room, in this order; the sentences hold their numbers too."""


def show(findings: Findings, console: Console) -> None:
    """Prints a study."""
    console.print(Text.assemble((findings.study, "bold"), f"   {fairness.spent(findings)}"), soft_wrap=True)
    shown = views(findings)
    if base := findings.asked.get("base"):
        paragraph(said(f"every run: {' '.join(base)}"), console, style="dim")
    for view in shown:
        _size(view, console)
    if not shown:
        console.print(Text("  no run finished, so nothing can be compared"))
    doubts = [*fairness.rules(findings), *findings.notes]
    section("fairness", [*map(said, doubts), *fairness.caveats(findings)], console)
    section("sizes", map(fairness.scaled, findings.scalings), console)
    section("did not finish", words.unfinished(findings), console)


def _size(view: View, console: Console) -> None:
    """All about one size."""
    size = [Strong(view.stratum.size), ": "] if view.stratum.size else []
    paragraph(said(*size, tables.heading(view)), console, before=True)
    _main(view, console)
    console.print()
    paragraph(headline(view), console)
    section("verdicts", words.verdicts(view), console)
    if view.stratum.confirmed:
        section("on fresh seeds alone", words.confirmed(view, view.stratum.confirmed), console)
    if view.comparison.pairs:
        paragraph(said(Strong("pairs")), console, before=True)
        _print(tables.pairs(view), console)
    _others(view, console)
    section("trade-offs", [*map(said, fairness.ladder(view)), *fairness.fronts(view)], console)
    if view.tunings:
        paragraph(said(Strong("learning rates"), ": mean loss at each, a star for the best"), console, before=True)
        _print(tables.tuning(view), console)
        section("", (words.tuned(view, one) for one in view.tunings), console)
    section("noise", map(said, [*fairness.floor(view), fairness.judged(view), *view.notes]), console)


def _main(view: View, console: Console) -> None:
    found = tables.main(view)
    room = console.width - INDENT
    for head in SPARE:
        if wide(found) > room:
            found = [one for one in found if one.head != head]
    beside = room - wide(found) - GAP
    if not view.contrasts:
        _print(found, console, view)
        return
    if beside >= NARROW:
        plot = plotted(view, min(beside, WIDE))
        _print([*found[:-1], plot, found[-1]], console, view)
    else:
        _print(found, console, view)
        plot = plotted(view, max(NARROW, min(room - wide(found[:1]) - GAP, WIDE)))
        _print([found[0], plot], console, view, before=True)
    paragraph(said(legended(view, plot)), console, style="dim")


def _others(view: View, console: Console) -> None:
    """As many columns as fit, then the next ones below."""
    every = found = tables.others(view)
    while len(found) > 1:
        arm, *rest = found
        many = 1
        while many < len(rest) and wide([arm, *rest[: many + 1]]) <= console.width - INDENT:
            many += 1
        _print([arm, *rest[:many]], console, before=True)
        found = [arm, *rest[many:]]
    marks = [
        f"{mark} {verdict}"
        for verdict, mark in MARKS.items()
        if any(mark in cell for one in every[1:] for cell in one.cells)
    ]
    lines = [f"against {view.name(view.comparison.baseline)}: {'  '.join(marks)}"] if marks else []
    for line in [*lines, tables.shared(view)]:
        if line:
            paragraph(said(line), console, style="dim")


def wide(found: list[Column]) -> int:
    """Characters that columns take side by side; names of arms may be folded at 24."""
    widths = [max(cell_len(text) for text in (*one.head.splitlines(), *one.cells, "")) for one in found]
    return min(widths[0], 24) + sum(widths[1:]) + GAP * (len(widths) - 1)


def _print(found: list[Column], console: Console, view: View | None = None, before: bool = False) -> None:
    """A table; with a view its verdicts have colours."""
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for number, one in enumerate(found):
        table.add_column(headed(one), overflow="fold", no_wrap=number > 0)
    for row, cells in enumerate(zip(*(one.cells for one in found), strict=True)):
        verdict = view.verdict(view.order[row]) if view else ""
        table.add_row(*(_coloured(cell, one.coloured, verdict) for cell, one in zip(cells, found, strict=True)))
    console.print(Padding(table, (int(before), 0, 0, INDENT), expand=False))


def _coloured(cell: str, pattern: str, verdict: str) -> Text:
    text = Text(cell, style="dim" if pattern else "")
    if pattern and verdict in COLOURS:
        text.highlight_regex(pattern, f"not dim {COLOURS[verdict]}")
    return text


def headed(column: Column) -> Text:
    """A head whose last line stands on the cells."""
    across = max(map(cell_len, [*column.head.splitlines(), *column.cells]))
    lines = column.head.split("\n")
    return Text("\n".join(line if column.left else line.rjust(across) for line in lines))


# -- sentences


def section(name: str, sentences: Iterable[Sentence], console: Console) -> None:
    """A heading and its sentences; nothing where there are none."""
    for number, sentence in enumerate(sentences):
        if not number:
            console.print()
            if name:
                console.print(Text(f"{' ' * INDENT}{name}", style="bold"))
        paragraph(sentence, console)


def paragraph(sentence: Sentence, console: Console, style: str = "", before: bool = False) -> None:
    """A sentence, wrapped; its command on a line of its own, whole, to be copied."""
    text = Text(style=style)
    for part in sentence.parts:
        text.append(re.sub(r"(?<=\d) (?=%)", GLUE, part), style="bold" if isinstance(part, Strong) else "")
    if before:
        console.print()
    for number, line in enumerate(text.wrap(console, min(console.width, LINE) - 2 * INDENT)):
        line.rstrip()
        line.plain = line.plain.replace(GLUE, " ")
        console.print(Text(" " * (INDENT if style or not number else 2 * INDENT)).append_text(line))
    if sentence.command:
        console.print(Text(f"{' ' * 2 * INDENT}{sentence.command}", style="cyan"), soft_wrap=True)
