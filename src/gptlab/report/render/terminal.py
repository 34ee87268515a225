"""A study on the terminal: a table, its forest plot, verdicts in words, costs, caveats. From 60 columns on.

Colour repeats what words say and says nothing by itself.
"""

import re
from collections.abc import Iterable

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gptlab.report.text import caveats, columns, measures, sentences
from gptlab.report.text.capabilities import CAPTION, build_capability_columns
from gptlab.report.text.columns import Column
from gptlab.report.text.forest_plot import render_forest_plot, render_legend
from gptlab.report.text.ladder import build_ladder_columns, describe_ladder
from gptlab.report.text.markup import Sentence, Strong, give_commands_once, parse_sentence
from gptlab.report.text.summary import summarize_verdicts
from gptlab.report.text.view import MARKS, View, make_views
from gptlab.stats.results import Findings

COLOURS = {"better": "green", "worse": "red", "equivalent": "cyan", "not resolved": "yellow"}
COLOURS |= {"unstable": "magenta", "failed": "magenta"}
INDENT, GAP = 2, 2
MIN_PLOT, MAX_PLOT = 30, 48
"""Characters of a forest plot."""
MAX_NAME = 24
"""Characters at which names of arms may be folded."""
MAX_LINE = 100
"""Characters of a sentence's line, so that the eye finds the next one."""
NO_BREAK = "\ue000"
"""Stands for a blank while lines are broken, so that a number keeps its percent sign."""
SPARE = ("seeds", "worth\ncompute", "net of\nspeed", "p (Holm)", "p")
"""Columns that go where there is no room, in this order; the sentences hold their numbers too."""


def print_study(findings: Findings, console: Console) -> None:
    """Print a study."""
    console.print(Text.assemble((findings.study, "bold"), f"   {caveats.summarize_runs(findings)}"), soft_wrap=True)
    views = make_views(findings)
    if base := findings.plan.base:
        print_paragraph(f"every run: {' '.join(base)}", console, style="dim")
    for view in views:
        _print_view(view, console)
    if findings.ladder:
        print_paragraph(parse_sentence("**over sizes**"), console, space_before=True)
        print_table(build_ladder_columns(findings.ladder), console)
        print_section("", describe_ladder(findings.ladder), console)
    _print_capabilities(views, console)
    if not views:
        console.print(Text("  no run finished, so nothing can be compared"))
    rules = [*caveats.describe_rules(findings), *findings.notes]
    print_section("fairness", [*rules, *caveats.list_caveats(findings)], console)
    print_section("sizes", map(caveats.describe_scaling, findings.scalings), console)
    print_section("did not finish", sentences.describe_unfinished_runs(findings), console)


def _print_view(view: View, console: Console) -> None:
    """Print all about one size."""
    size, caption = view.stratum.size, columns.describe_main_table(view)
    print_paragraph(Sentence((Strong(size), ": ", caption) if size else (caption,)), console, space_before=True)
    _print_main_table(view, console)
    console.print()
    print_paragraph(summarize_verdicts(view), console)
    print_section("verdicts", give_commands_once(sentences.describe_verdicts(view)), console)
    if fresh := view.stratum.confirmed:
        print_section("on fresh seeds alone", sentences.describe_confirmation(view, fresh), console)
    if view.comparison.pairs:
        print_paragraph(parse_sentence("**pairs**"), console, space_before=True)
        print_table(columns.build_pair_columns(view), console)
    _print_cost_tables(view, console)
    print_section("trade-offs", [*caveats.describe_budgets(view), *caveats.describe_fronts(view)], console)
    if view.tunings:
        caption = parse_sentence("**learning rates**: mean loss at each, a star for the best")
        print_paragraph(caption, console, space_before=True)
        print_table(columns.build_tuning_columns(view), console)
        print_section("", (sentences.describe_tuning(view, tuning) for tuning in view.tunings), console)
    noise = [*caveats.describe_noise(view), caveats.describe_margin(view), *view.notes]
    print_section("noise", filter(None, noise), console)


def _print_capabilities(views: list[View], console: Console) -> None:
    """Print the table of a study over several tasks, as many arms beside each other as fit."""
    table = build_capability_columns(views)
    if table:
        print_paragraph(Sentence((Strong("capabilities"), f": {CAPTION}")), console, space_before=True)
        _print_in_parts(table[:2], table[2:], console)


# -- tables


def _print_main_table(view: View, console: Console) -> None:
    """Print the main table with the forest plot beside it, or below it where there is no room."""
    table = columns.build_main_columns(view)
    room = console.width - INDENT
    # least needed first, and only as many as it takes
    for head in SPARE:
        if measure_width(table) > room:
            table = [column for column in table if column.head != head]
    if not view.contrasts:
        print_table(table, console, view)
        return
    room_beside = room - measure_width(table) - GAP
    if room_beside >= MIN_PLOT:
        plot = render_forest_plot(view, min(room_beside, MAX_PLOT))
        print_table([*table[:-1], plot, table[-1]], console, view)
    else:
        print_table(table, console, view)
        # below the table, beside the names alone
        plot = render_forest_plot(view, max(MIN_PLOT, min(room - measure_width(table[:1]) - GAP, MAX_PLOT)))
        print_table([table[0], plot], console, view, space_before=True)
    print_paragraph(render_legend(view, plot), console, style="dim")


def _print_cost_tables(view: View, console: Console) -> None:
    """Print as many columns as fit, then the next ones below, then what their marks mean."""
    table = measures.build_cost_columns(view)
    names, rest = table[:1], table[1:]
    _print_in_parts(names, rest, console)
    cells = "".join(cell for column in rest for cell in column.cells)
    marks = [f"{mark} {verdict}" for verdict, mark in MARKS.items() if mark in cells]
    if marks:
        line = f"against {view.short_name(view.comparison.baseline)}: {'  '.join(marks)}"
        print_paragraph(line, console, style="dim")
    for line in caveats.describe_signals(view):
        print_paragraph(line, console, style="dim")
    if counts := measures.describe_shared_counts(view):
        print_paragraph(counts, console, style="dim")


def _print_in_parts(names: list[Column], rest: list[Column], console: Console) -> None:
    """Print as many of the columns beside the names as fit, then the names once more with the next ones, and so on."""
    while rest:
        count = 1  # a column that is too wide alone is printed nevertheless
        while count < len(rest) and measure_width([*names, *rest[: count + 1]]) <= console.width - INDENT:
            count += 1
        print_table([*names, *rest[:count]], console, space_before=True)
        rest = rest[count:]


def measure_width(table: list[Column]) -> int:
    """Return the characters that columns take side by side; names of arms may be folded at `MAX_NAME`."""
    widths = []
    for column in table:
        widths.append(max(cell_len(text) for text in (*column.head.splitlines(), *column.cells, "")))
    return min(widths[0], MAX_NAME) + sum(widths[1:]) + GAP * (len(widths) - 1)


def print_table(table: list[Column], console: Console, view: View | None = None, space_before: bool = False) -> None:
    """Print a table; with a view, its rows are arms, and their verdicts have colours."""
    grid = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for number, column in enumerate(table):
        grid.add_column(align_head(column), overflow="fold", no_wrap=number > 0)
    for row, cells in enumerate(zip(*(column.cells for column in table), strict=True)):
        verdict = view.get_verdict(view.order[row]) if view else ""
        grid.add_row(*(_colour_cell(cell, column, verdict) for cell, column in zip(cells, table, strict=True)))
    console.print(Padding(grid, (int(space_before), 0, 0, INDENT), expand=False))


def _colour_cell(cell: str, column: Column, verdict: str) -> Text:
    pattern = column.colour_pattern
    text = Text(cell, style="dim" if pattern or column.is_weak else "")
    if pattern and verdict in COLOURS:
        text.highlight_regex(pattern, f"not dim {COLOURS[verdict]}")
    return text


def align_head(column: Column) -> Text:
    """Return a head whose lines end where the cells end, unless the column is aligned to the left."""
    width = max(map(cell_len, [*column.head.splitlines(), *column.cells]))
    lines = column.head.split("\n")
    return Text("\n".join(line if column.left else line.rjust(width) for line in lines))


# -- sentences


def print_section(name: str, lines: Iterable[Sentence | str], console: Console) -> None:
    """Print a heading and its sentences; nothing where there are none."""
    for number, line in enumerate(lines):
        if not number:
            console.print()
            if name:
                console.print(Text(f"{' ' * INDENT}{name}", style="bold"))
        print_paragraph(line, console)


def print_paragraph(sentence: Sentence | str, console: Console, style: str = "", space_before: bool = False) -> None:
    """Print a sentence, wrapped; its command on a line of its own, whole, to be copied."""
    if isinstance(sentence, str):
        sentence = Sentence((sentence,))
    text = Text(style=style)
    for part in sentence.parts:
        # a number and its percent sign stay on one line
        text.append(re.sub(r"(?<=\d) (?=%)", NO_BREAK, part), style="bold" if isinstance(part, Strong) else "")
    if space_before:
        console.print()
    for number, line in enumerate(text.wrap(console, min(console.width, MAX_LINE) - 2 * INDENT)):
        line.rstrip()
        line.plain = line.plain.replace(NO_BREAK, " ")
        indent = INDENT if style or not number else 2 * INDENT  # later lines hang
        console.print(Text(" " * indent).append_text(line))
    if sentence.command:
        console.print(Text(f"{' ' * 2 * INDENT}{sentence.command}", style="cyan"), soft_wrap=True)
