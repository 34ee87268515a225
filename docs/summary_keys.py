"""Write the table of summary.json's keys into comparison.md, from where the code declares them: make docs"""

from pathlib import Path

from gptlab.stats.summary_keys import GROUPS, SummaryKey

PAGE = Path(__file__).with_name("comparison.md")
HEAD = ("| key | what it is | unit | better | written by |", "| :-- | :-- | :-- | :-- | :-- |")
BEGIN, END = "<!-- from here on written by `make docs` -->", "<!-- to here -->"


def render_page(page: str) -> str:
    """Return the page with its table written anew."""
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n\n{render_table()}\n{END}{after}"


def render_table() -> str:
    """Return the keys in Markdown, a table for each group."""
    lines = []
    for title, keys in GROUPS.items():
        lines += [
            f"**{title}**",
            "",
            "| key | what it is | unit | better | written by |",
            "| :-- | :-- | :-- | :-- | :-- |",
        ]
        lines += [*map(render_row, keys), ""]
    return "\n".join(lines)


def render_row(key: SummaryKey) -> str:
    """Return the line of a key."""
    better = "" if key.better == "none" else key.better
    return f"| `{key.key}` | {key.meaning} | {key.unit} | {better} | `{key.source}` |"


if __name__ == "__main__":
    PAGE.write_text(render_page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
