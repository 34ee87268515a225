"""table.tex: the main table for a paper, by booktabs. All text is escaped."""

import re
from collections.abc import Iterable

from gptlab.report.text.columns import build_main_columns, describe_main_table
from gptlab.report.text.numbers import MINUS
from gptlab.report.text.view import View, make_views
from gptlab.stats.results import Findings

SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": r"\textbar{}",
    "[": "{[}",  # at the head of a row it would be an argument of the line before
    "]": "{]}",
    MINUS: "$-$",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
}


def escape_latex(text: str) -> str:
    """Return text that means nothing to LaTeX, on one line."""
    # one pass: what a replacement brings in must not be escaped again
    return re.sub(".", lambda match: SPECIAL.get(match[0], match[0]), " ".join(text.split()))


def render_table(findings: Findings) -> str:
    """Return a tabular for each size."""
    return "% \\usepackage{booktabs}\n" + "\n".join(map(_render_tabular, make_views(findings)))


def _render_tabular(view: View) -> str:
    """Return the main table of a size as a floating table with its caption."""
    columns = build_main_columns(view)
    heads = [column.head for column in columns]
    alignment = "".join("l" if column.left else "r" for column in columns)
    rows = zip(*(column.cells for column in columns), strict=True)
    caption = ": ".join(filter(None, [view.stratum.size, describe_main_table(view)]))
    lines = [
        "\\begin{table}",
        "  \\centering",
        f"  \\caption{{{escape_latex(caption)}}}",
        f"  \\begin{{tabular}}{{{alignment}}}",
        "    \\toprule",
        _render_row(heads),
        "    \\midrule",
        *map(_render_row, rows),
        "    \\bottomrule",
        "  \\end{tabular}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _render_row(cells: Iterable[str]) -> str:
    return f"    {' & '.join(escape_latex(cell) for cell in cells)} \\\\"
