"""table.tex: the main table for a paper, by booktabs. All text is escaped."""

import re
from collections.abc import Iterable

from gptlab.report.text import columns as tables
from gptlab.report.text.numbers import MINUS
from gptlab.report.text.view import View, views
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


def plain(text: str) -> str:
    """Text that means nothing to LaTeX, on one line."""
    return re.sub(".", lambda one: SPECIAL.get(one[0], one[0]), " ".join(text.split()))


def table(findings: Findings) -> str:
    """A tabular for each size."""
    return "% \\usepackage{booktabs}\n" + "\n".join(map(_tabular, views(findings)))


def _tabular(view: View) -> str:
    found = tables.main(view)
    rows = zip(*(one.cells for one in found), strict=True)
    title = ": ".join(filter(None, [view.stratum.size, tables.heading(view)]))
    lines = [
        "\\begin{table}",
        "  \\centering",
        f"  \\caption{{{plain(title)}}}",
        f"  \\begin{{tabular}}{{{''.join('l' if one.left else 'r' for one in found)}}}",
        "    \\toprule",
        _row(one.head for one in found),
        "    \\midrule",
        *(_row(row) for row in rows),
        "    \\bottomrule",
        "  \\end{tabular}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _row(cells: Iterable[str]) -> str:
    return f"    {' & '.join(plain(cell) for cell in cells)} \\\\"
