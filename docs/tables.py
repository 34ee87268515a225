"""Write the tables of comparison.md from where the code declares their keys: make docs"""

from pathlib import Path

from gptlab.report.render.comparison_keys import TABLES, KeyTable
from gptlab.stats.summary_keys import GROUPS, SummaryKey

PAGE = Path(__file__).with_name("comparison.md")
END = "<!-- to here -->"


def render_page(page: str) -> str:
    """Return the page with its tables written anew."""
    parts = {"comparison.json": "\n".join(map(render_table, TABLES)), "summary.json": render_summary_keys()}
    for name, text in parts.items():
        begin = f"<!-- {name}: from here on written by `make docs` -->"
        before, mark, rest = page.partition(begin)
        if not mark:
            raise ValueError(f"{PAGE.name} has no line: {begin}")
        page = f"{before}{begin}\n\n{text}\n{END}{rest.partition(END)[2]}"
    return page


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
    PAGE.write_text(render_page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
