"""Write tables of the documents: make docs

Those of comparison.md come from where the code declares their keys, those of decision_accuracy.md from the losses in
decision_accuracy.json.
"""

from pathlib import Path

from gptlab.report.decisions import read_ladders
from gptlab.report.render.comparison_keys import TABLES, KeyTable
from gptlab.report.render.decisions import render_decisions
from gptlab.stats.ladder.decision_accuracy import compare_all_sizes
from gptlab.stats.summary_keys import GROUPS, SummaryKey

PAGE = Path(__file__).with_name("comparison.md")
DECISIONS = Path(__file__).with_name("decision_accuracy.md")
END = "<!-- to here -->"


def render_page(page: str) -> str:
    """Return the page with its tables written anew."""
    parts = {"comparison.json": "\n".join(map(render_table, TABLES)), "summary.json": render_summary_keys()}
    for name, text in parts.items():
        page = fill_part(page, name, text)
    return page


def render_decision_page(page: str) -> str:
    """Return the page on decisions with its tables written anew."""
    pairs = compare_all_sizes(read_ladders([DECISIONS.with_suffix(".json")]))
    return fill_part(page, "decisions", render_decisions(pairs))


def fill_part(page: str, name: str, text: str) -> str:
    """Return the page with the text between its two marks written anew."""
    begin = f"<!-- {name}: from here on written by `make docs` -->"
    before, mark, rest = page.partition(begin)
    if not mark:
        raise ValueError(f"the page has no line: {begin}")
    return f"{before}{begin}\n\n{text}\n{END}{rest.partition(END)[2]}"


def render_table(table: KeyTable) -> str:
    """Return one kind of object of comparison.json in Markdown."""
    lines = [f"**{table.title}**", "", "| key | what it is |", "| :-- | :-- |"]
    lines += [f"| `{key}` | {meaning} |" for key, meaning in table.keys.items()]
    return "\n".join([*lines, ""])


def render_summary_keys() -> str:
    """Return the keys of summary.json in Markdown, a table for each group."""
    lines = []
    for title, keys in GROUPS.items():
        lines += [
            f"**{title}**",
            "",
            "| key | what it is | unit | better | written by |",
            "| :-- | :-- | :-- | :-- | :-- |",
        ]
        lines += [*map(render_summary_key, keys), ""]
    return "\n".join(lines)


def render_summary_key(key: SummaryKey) -> str:
    """Return the line of a key."""
    better = "" if key.better == "none" else key.better
    return f"| `{key.key}` | {key.meaning} | {key.unit} | {better} | `{key.source}` |"


if __name__ == "__main__":
    for path, render in ((PAGE, render_page), (DECISIONS, render_decision_page)):
        path.write_text(render(path.read_text(encoding="utf-8")), encoding="utf-8")
